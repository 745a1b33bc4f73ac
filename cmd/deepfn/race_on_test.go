//go:build race

package main

// race says whether this test runs with the race detector.
const race = true
