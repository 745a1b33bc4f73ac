//go:build !race

package picture_test

// more is how much more of what is announced may be allocated: nothing.
const more = 0.0
