//go:build race

package picture_test

// more is how much more of what is announced may be allocated: under the race detector
// the compiler makes what append(b, make([]byte, n)...) appends before it copies it.
const more = 0.5
