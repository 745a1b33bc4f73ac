package picture

import (
	"math"
	"slices"
)

// A Filter says how pixels are weighed when a picture changes its size.
type Filter string

// The filters, by Pillow's names.
const (
	Nearest  Filter = "nearest"
	Box      Filter = "box"
	Bilinear Filter = "bilinear"
	Hamming  Filter = "hamming"
	Bicubic  Filter = "bicubic"
	Lanczos  Filter = "lanczos"
)

// Filters lists every Filter.
func Filters() []Filter {
	return []Filter{Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos}
}

// precision is the number of fraction bits of a coefficient: 32 less 8 for the sample
// and 2 for sums outside of 0 to 255.
const precision = 32 - 8 - 2

// A Region is a part of a picture in pixels, whose edges may lie inside of pixels. It
// holds float32, as Pillow does: its rounding is part of the result.
type Region struct{ X0, Y0, X1, Y1 float32 }

// Whole returns the region that covers p.
func (p Picture) Whole() Region {
	return Region{0, 0, float32(p.Width), float32(p.Height)}
}

// Resize returns the region r of p with another size. The region must lie inside the
// picture; the sizes must be positive. The result may share p's samples.
func (p Picture) Resize(width, height int, r Region, f Filter) Picture {
	if width == p.Width && height == p.Height && r == p.Whole() {
		return p
	}
	if f == Nearest {
		return p.nearest(width, height, r)
	}
	cols := coefficients(p.Width, r.X0, r.X1, width, f)
	rows := coefficients(p.Height, r.Y0, r.Y1, height, f)
	wide := width != p.Width || r.X0 != 0 || r.X1 != float32(width)
	tall := height != p.Height || r.Y0 != 0 || r.Y1 != float32(height)
	switch {
	case wide && tall:
		return p.both(cols, rows)
	case wide:
		out := New(width, p.Height, p.Channels)
		for y := range p.Height {
			cols.row(out.Row(y), p.Row(y))
		}
		return out
	case tall:
		return vertical(p.Width, p.Channels, rows, p.Row)
	}
	return p
}

// nearest takes, for each sample, the pixel that its middle falls into. The positions
// are summed up and not multiplied, as Pillow does it.
func (p Picture) nearest(width, height int, r Region) Picture {
	out := New(width, height, p.Channels)
	cols := positions(p.Width, r.X0, r.X1, width)
	rows := positions(p.Height, r.Y0, r.Y1, height)
	n := p.Channels
	for y, sy := range rows {
		src, dst := p.Row(sy), out.Row(y)
		for x, sx := range cols {
			copy(dst[x*n:x*n+n], src[sx*n:sx*n+n])
		}
	}
	return out
}

func positions(in int, in0, in1 float32, out int) []int {
	at := make([]int, out)
	step := float64(in1-in0) / float64(out)
	pos := float64(in0) + float64(step*0.5)
	for i := range at {
		at[i] = min(max(int(pos), 0), in-1)
		pos += step
	}
	return at
}

// weights are the coefficients of one direction: the output sample i is the sum of
// coef[i*size+k] times the input sample start[i]+k, for k below count[i].
type weights struct {
	size         int
	start, count []int
	coef         []int32
}

// coefficients computes in the order of Pillow's precompute_coeffs. The conversions
// keep the compiler from fusing a multiplication with an addition, which some
// processors would round differently.
func coefficients(in int, in0, in1 float32, out int, f Filter) weights {
	scale := float64(in1-in0) / float64(out)
	filterScale := max(scale, 1)
	weigh, support := f.kernel()
	support *= filterScale
	size := int(math.Ceil(support))*2 + 1
	w := weights{size, make([]int, out), make([]int, out), make([]int32, out*size)}
	k := make([]float64, size)
	for i := range out {
		center := float64(in0) + float64((float64(i)+0.5)*scale)
		start := max(int(center-support+0.5), 0)
		count := min(int(center+support+0.5), in) - start
		inverse, sum := 1/filterScale, 0.0
		for j := range count {
			k[j] = weigh(float64((float64(j+start) - center + 0.5) * inverse))
			sum += k[j]
		}
		w.start[i], w.count[i] = start, count
		for j := range count {
			if sum != 0 {
				k[j] /= sum
			}
			w.coef[i*size+j] = int32(math.Copysign(0.5, k[j]) + float64(k[j]*(1<<precision)))
		}
	}
	return w
}

// kernel returns the filter's function and how far it reaches.
func (f Filter) kernel() (func(float64) float64, float64) {
	switch f {
	case Box:
		return box, 0.5
	case Hamming:
		return hamming, 1
	case Bicubic:
		return bicubic, 2
	case Lanczos:
		return lanczos, 3
	case Nearest, Bilinear:
	}
	return triangle, 1
}

func box(x float64) float64 {
	if x > -0.5 && x <= 0.5 {
		return 1
	}
	return 0
}

func triangle(x float64) float64 {
	return max(1-math.Abs(x), 0)
}

func hamming(x float64) float64 {
	x = math.Abs(x)
	switch {
	case x == 0:
		return 1
	case x >= 1:
		return 0
	}
	x *= math.Pi
	return math.Sin(x) / x * (0.54 + float64(0.46*math.Cos(x)))
}

func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64((float64((a+2)*x)-(a+3))*x*x) + 1
	case x < 2:
		return (float64((float64((x-5)*x)+8)*x) - 4) * a
	}
	return 0
}

func lanczos(x float64) float64 {
	if x < -3 || x >= 3 {
		return 0
	}
	return sinc(x) * sinc(x/3)
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// clip rounds a sum of products to a sample. The rounding half is in the sum already.
func clip(sum int32) byte {
	return byte(min(max(sum>>precision, 0), 255))
}

// half is what a sum of products begins with.
const half = int32(1) << (precision - 1)

// both resizes in both directions. Of the rows that are resized in the first, it keeps
// as many as a row of the result is made of, and not all: a tall picture has many.
func (p Picture) both(cols, rows weights) Picture {
	kept := New(len(cols.start), slices.Max(rows.count), p.Channels)
	next := rows.start[0]
	return vertical(kept.Width, p.Channels, rows, func(y int) []byte {
		for ; next <= y; next++ {
			cols.row(kept.Row(next%kept.Height), p.Row(next))
		}
		return kept.Row(y % kept.Height)
	})
}

// row resizes a row.
func (w weights) row(dst, src []byte) {
	if len(dst) == 3*len(w.start) {
		w.row3(dst, src)
	} else {
		w.row1(dst, src)
	}
}

func (w weights) row3(dst, src []byte) {
	for i, start := range w.start {
		r, g, b := half, half, half
		s := src[start*3 : (start+w.count[i])*3]
		for _, k := range w.coef[i*w.size : i*w.size+w.count[i]] {
			r += int32(s[0]) * k
			g += int32(s[1]) * k
			b += int32(s[2]) * k
			s = s[3:]
		}
		dst[i*3], dst[i*3+1], dst[i*3+2] = clip(r), clip(g), clip(b)
	}
}

func (w weights) row1(dst, src []byte) {
	for i, start := range w.start {
		sum := half
		s := src[start : start+w.count[i]]
		for j, k := range w.coef[i*w.size : i*w.size+w.count[i]] {
			sum += int32(s[j]) * k
		}
		dst[i] = clip(sum)
	}
}

// vertical resizes columns. It walks whole rows, because memory likes that, and asks for
// each a first time in their order.
func vertical(width, channels int, w weights, row func(y int) []byte) Picture {
	out := New(width, len(w.start), channels)
	sums := make([]int32, width*channels)
	for y, start := range w.start {
		for i := range sums {
			sums[i] = half
		}
		for j, k := range w.coef[y*w.size : y*w.size+w.count[y]] {
			for i, s := range row(start + j) {
				sums[i] += int32(s) * k
			}
		}
		dst := out.Row(y)
		for i, sum := range sums {
			dst[i] = clip(sum)
		}
	}
	return out
}
