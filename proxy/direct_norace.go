//go:build !race

package proxy

// watchedIO says that the race detector learns from package net's reading and writing what
// happens before what.
const watchedIO = false
