// Package store keeps the entities and activations of an OpenWhisk on disk, in one bbolt
// file: pages that are written whole before they count, so that a killed server loses
// nothing that was acknowledged; one file, no server, no cgo. SQLite would bring queries
// that nothing here asks for, and ten times the code.
package store
