package rows

import "strconv"

const (
	minBlock = 16 << 10
	maxBlock = 1 << 20
)

// An arena has the bytes of a Part in a few large blocks, so that a row costs no memory of its
// own. The zero value is ready.
type arena struct {
	block []byte
	size  int
}

// copy returns a copy of b, which nobody can append to.
func (a *arena) copy(b []byte) []byte {
	if cap(a.block)-len(a.block) < len(b) {
		if len(b) > maxBlock/4 {
			return append(make([]byte, 0, len(b)), b...)
		}
		a.size = min(max(2*a.size, minBlock), maxBlock)
		a.block = make([]byte, 0, max(a.size, len(b)))
	}
	start := len(a.block)
	a.block = append(a.block, b...)
	return a.block[start:len(a.block):len(a.block)]
}

// number returns the digits of n.
func (a *arena) number(n int64) []byte {
	var digits [20]byte
	return a.copy(strconv.AppendInt(digits[:0], n, 10))
}
