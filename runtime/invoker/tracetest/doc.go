// Package tracetest makes what the pool is tried on: traces of invocations as a provider of
// functions has seen them, and devices and instances that need no GPU.
//
// A trace is made of published figures alone, so that nobody has to fetch or license the data
// behind them, and of a seed: the same seed gives the same trace. docs/simulation.md says which
// figures these are and where they stand.
//
// All fakes live in the time of their caller: inside testing/synctest a day passes in seconds.
package tracetest
