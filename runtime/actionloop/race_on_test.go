//go:build race

package actionloop_test

// race says whether this test runs with the race detector.
const race = true
