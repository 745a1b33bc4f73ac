// Package invoker turns one request into one call of a warm instance of its model.
//
// Each model has a pool, which is database/sql's pool with instances for
// connections: a request takes the newest idle instance, else it waits in line while
// another one is started, up to Config.MaxInstances; an instance that nobody has used
// for Config.IdleTime is stopped. The line has a depth; a request that finds it full
// fails at once with actions.Busy.
//
// An instance is started by the pool and for the pool: a caller who leaves does not
// end the start that he caused. An instance that dies takes the requests that it held
// with it, and no others; the pool starts another at once. While starts fail, or
// instances die one after the other before they have answered anything, the delays grow
// from 100 milliseconds to 30 seconds.
package invoker
