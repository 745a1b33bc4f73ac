package picture

import "image"

// fromYCbCr converts the planes of a JPEG as libjpeg does: chroma that has half the
// width, half the height or both is interpolated with a triangle filter, and the colour
// conversion is in 16 bits of fraction.
func fromYCbCr(m *image.YCbCr) Picture {
	b := m.Bounds()
	p := New(b.Dx(), b.Dy(), 3)
	up := newUpsampler(m)
	cb, cr := make([]byte, p.Width+1), make([]byte, p.Width+1)
	for y := range p.Height {
		up.row(cb, m.Cb, y)
		up.row(cr, m.Cr, y)
		luma := m.Y[m.YOffset(b.Min.X, b.Min.Y+y):][:p.Width]
		dst := p.Row(y)
		for x, l := range luma {
			convert(dst[x*3:x*3+3], int32(l), int32(cb[x])-128, int32(cr[x])-128)
		}
	}
	return p
}

// convert writes one pixel from luma and centred chroma. The factors are 1.402, 1.772,
// 0.714136286 and 0.344136286 times 1<<16.
func convert(s []byte, y, cb, cr int32) {
	const half = 1 << 15
	s[0] = saturate(y + (91881*cr+half)>>16)
	s[1] = saturate(y + (-22554*cb-46802*cr+half)>>16)
	s[2] = saturate(y + (116130*cb+half)>>16)
}

func saturate(v int32) byte { return byte(min(max(v, 0), 255)) }

// An upsampler widens rows of chroma to the size of luma.
type upsampler struct {
	width, height int // of a plane of chroma
	stride        int
	dx, dy        int // how much wider and taller luma is
	sums          []int32
}

func newUpsampler(m *image.YCbCr) *upsampler {
	u := &upsampler{stride: m.CStride, dx: 1, dy: 1}
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio444:
	case image.YCbCrSubsampleRatio422:
		u.dx = 2
	case image.YCbCrSubsampleRatio420:
		u.dx, u.dy = 2, 2
	case image.YCbCrSubsampleRatio440:
		u.dy = 2
	case image.YCbCrSubsampleRatio411:
		u.dx = 4
	case image.YCbCrSubsampleRatio410:
		u.dx, u.dy = 4, 2
	}
	b := m.Bounds()
	u.width, u.height = (b.Dx()+u.dx-1)/u.dx, (b.Dy()+u.dy-1)/u.dy
	u.sums = make([]int32, u.width)
	return u
}

// row writes the chroma that belongs to row y of luma.
func (u *upsampler) row(dst, plane []byte, y int) {
	near := plane[y/u.dy*u.stride:][:u.width]
	// libjpeg interpolates only where there is something to interpolate between.
	smooth := u.dx == 2 && u.width > 2
	switch {
	case u.dx == 1 && u.dy == 1:
		copy(dst, near)
	case smooth && u.dy == 1:
		widen(dst, near)
	case smooth && u.dy == 2:
		far := plane[u.neighbour(y)*u.stride:][:u.width]
		for i := range u.sums {
			u.sums[i] = 3*int32(near[i]) + int32(far[i])
		}
		widenSums(dst, u.sums)
	case u.dx == 1 && u.dy == 2:
		far := plane[u.neighbour(y)*u.stride:][:u.width]
		bias := int32(1 + y%2)
		for i := range near {
			dst[i] = byte((3*int32(near[i]) + int32(far[i]) + bias) >> 2)
		}
	default:
		for x := range dst {
			dst[x] = near[min(x/u.dx, u.width-1)]
		}
	}
}

// neighbour returns the second nearest row of chroma to row y of luma. At the edges it
// is the nearest itself.
func (u *upsampler) neighbour(y int) int {
	if y%2 == 0 {
		return max(y/2-1, 0)
	}
	return min(y/2+1, u.height-1)
}

// widen doubles a row: each sample is three parts of the nearest and one of the next,
// rounded down on the left and up on the right.
func widen(dst, src []byte) {
	last := len(src) - 1
	for i, s := range src {
		v := 3 * int32(s)
		left := (v + int32(src[max(i-1, 0)]) + 1) >> 2
		right := (v + int32(src[min(i+1, last)]) + 2) >> 2
		if i == 0 {
			left = int32(s)
		}
		if i == last {
			right = int32(s)
		}
		put(dst, 2*i, left, right)
	}
}

// widenSums doubles a row of sums of two rows, which are four times the samples.
func widenSums(dst []byte, src []int32) {
	last := len(src) - 1
	for i, s := range src {
		left := (3*s + src[max(i-1, 0)] + 8) >> 4
		right := (3*s + src[min(i+1, last)] + 7) >> 4
		put(dst, 2*i, left, right)
	}
}

// put writes two samples, of which the second may be one too many.
func put(dst []byte, i int, left, right int32) {
	dst[i] = byte(left)
	if i+1 < len(dst) {
		dst[i+1] = byte(right)
	}
}
