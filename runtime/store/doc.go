// Package store keeps the entities and activations of an OpenWhisk on disk, in one bbolt
// file: pages that are written whole before they count, so that a killed server loses
// nothing that was acknowledged; one file, no server, no cgo. SQLite would bring queries
// that nothing here asks for, and ten times the code.
//
// One goroutine writes activations: what waits while it waits for the disk goes into its
// next transaction together (Store.Begin, Store.End).
//
// # The file
//
// Numbers in keys are 8 bytes, big-endian, so that they sort. A text in a key has 00 01 at
// its end and 00 ff for a 00 in it: texts sort as their bytes, and none is the beginning of
// another. An activation has a number, in the order of its end.
//
//	about        "version" → 1, "count" → activations, "bytes" → bytes of their values
//	entities     collection, namespace, package, name → document
//	pending      namespace, id → what was accepted and is not finished; until it begins, with what runs it
//	activations  number → the activation
//	ids          namespace, id → number
//	index        namespace, "" or the name in a query, start in microseconds, number → nothing
//
// The values of pending and activations are those that encode writes.
package store
