package picture

import "math"

// Contain returns p in the greatest size that fits into width by height and keeps its
// shape, as Pillow's ImageOps.contain.
func (p Picture) Contain(width, height int, f Filter) Picture {
	shape, want := ratio(p.Width, p.Height), ratio(width, height)
	switch {
	case shape > want:
		height = max(int(math.RoundToEven(float64(p.Height)/float64(p.Width)*float64(width))), 1)
	case shape < want:
		width = max(int(math.RoundToEven(float64(p.Width)/float64(p.Height)*float64(height))), 1)
	}
	return p.Resize(width, height, p.Whole(), f)
}

// Cover returns the greatest part of p that has the shape of width by height, around
// its middle, in that size, as Pillow's ImageOps.fit.
func (p Picture) Cover(width, height int, f Filter) Picture {
	w, h := float64(p.Width), float64(p.Height)
	want := ratio(width, height)
	switch shape := w / h; {
	case shape > want:
		w = want * h
	case shape < want:
		h = w / want
	}
	left, top := (float64(p.Width)-w)*0.5, (float64(p.Height)-h)*0.5
	r := Region{float32(left), float32(top), float32(left + w), float32(top + h)}
	return p.Resize(width, height, r, f)
}

func ratio(width, height int) float64 { return float64(width) / float64(height) }

// Margins returns how far from the left and the top p begins when it lies in the middle
// of width by height.
func (p Picture) Margins(width, height int) (left, top int) {
	return int(math.RoundToEven(float64(width-p.Width) * 0.5)), int(math.RoundToEven(float64(height-p.Height) * 0.5))
}
