package onnx

import (
	"errors"
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

// An imageStep makes a tensor from a picture.
type imageStep struct {
	Image
	kind kind
	// values are what each sample becomes, by channel in the order of Color.
	values [3][256]float32
	// blank is the value of what the picture does not cover, by channel.
	blank [3]float32
}

func newImageStep(im Image, p port) (*imageStep, error) {
	s := &imageStep{Image: im, kind: p.kind}
	if len(p.shape) != 4 && p.shape != nil {
		return nil, fmt.Errorf("the model takes the shape %s, a picture has four dimensions", shapeText(p.shape))
	}
	switch p.kind {
	case fp32, fp16, bf16:
	case uint8s:
		if im.Scale != 0 && im.Scale != 1 || im.Mean != nil || im.Std != nil {
			return nil, errors.New("the model takes samples of UINT8, so scale, mean and std must be absent")
		}
	default:
		return nil, fmt.Errorf("the model takes elements of type %s, a picture can be FP32, FP16, BF16 or UINT8", p.kind)
	}
	for c := range im.channels() {
		for v := range s.values[c] {
			s.values[c][v] = im.normal(c, float64(v))
		}
		if im.Resize.Pad != nil {
			s.blank[c] = im.normal(c, at(im.Resize.Pad, c, 0))
		}
	}
	return s, nil
}

// normal normalises a sample. It rounds once.
func (im Image) normal(channel int, v float64) float32 {
	if im.Scale != 0 {
		v *= im.Scale
	}
	return float32((v - at(im.Mean, channel, 0)) / at(im.Std, channel, 1))
}

// at returns the number for a channel from a list of none, one or all.
func at(list []float64, channel int, none float64) float64 {
	switch len(list) {
	case 0:
		return none
	case 1:
		return list[0]
	}
	return list[channel]
}

// decode reads the bytes of a picture.
func (s *imageStep) decode(data []byte) (tensor, error) {
	p, err := picture.Decode(data, s.limits())
	if err != nil {
		return tensor{}, err
	}
	return s.tensor(p)
}

// limits counts what is made of each pixel besides: gray ones, and without a resize the
// tensor, whose elements are FP32 before they are something else.
func (s *imageStep) limits() picture.Limits {
	l := picture.Limits{Pixels: s.MaxPixels, Bytes: s.MaxBytes}
	if s.Color == "gray" {
		l.PerPixel++
	}
	if s.Resize.Mode == "" || s.Resize.Mode == "none" {
		l.PerPixel += s.channels() * 4
		if s.kind != fp32 {
			l.PerPixel += s.channels() * elementSize(s.kind)
		}
	}
	return l
}

func (s *imageStep) tensor(p picture.Picture) (tensor, error) {
	return s.tensorIn(p, s.Resize)
}

// tensorIn makes a tensor with another Resize than the action's.
func (s *imageStep) tensorIn(p picture.Picture, r Resize) (tensor, error) {
	if s.Color == "gray" {
		p = p.Gray()
	}
	p, c, err := r.apply(p)
	if err != nil {
		return tensor{}, err
	}
	n := s.channels()
	t := tensor{s.kind, []int64{1, int64(n), int64(c.height), int64(c.width)}, nil}
	channelStep, pixelStep := c.width*c.height, 1
	if s.Layout == "nhwc" {
		t.shape = []int64{1, int64(c.height), int64(c.width), int64(n)}
		channelStep, pixelStep = 1, n
	}
	out := make([]float32, n*c.width*c.height)
	for channel := range n {
		s.fill(out[channel*channelStep:], channel, pixelStep, p, c)
	}
	t.data = s.convert(out)
	return t, nil
}

// fill writes one channel, whose samples lie step apart.
func (s *imageStep) fill(out []float32, channel, step int, p picture.Picture, c canvas) {
	if b := s.blank[channel]; b != 0 && (p.Width < c.width || p.Height < c.height) {
		for i := range c.width * c.height {
			out[i*step] = b
		}
	}
	from := channel
	if s.Color == "bgr" {
		from = 2 - channel
	}
	values := &s.values[channel]
	for y := range p.Height {
		at := ((c.top+y)*c.width + c.left) * step
		row := p.Row(y)
		for i := from; i < len(row); i += p.Channels {
			out[at] = values[row[i]]
			at += step
		}
	}
}

// convert gives the numbers the kind that the model takes.
func (s *imageStep) convert(d []float32) any {
	switch s.kind {
	case uint8s:
		return mapped(d, func(v float32) uint8 { return uint8(v) })
	case fp16:
		return mapped(d, floatToHalf)
	case bf16:
		return mapped(d, floatToBrain)
	default:
		return d
	}
}

// A canvas is the size of a tensor, and where the picture begins in it.
type canvas struct{ width, height, left, top int }

// apply resizes a picture.
func (r Resize) apply(p picture.Picture) (picture.Picture, canvas, error) {
	f := r.Filter
	if f == "" {
		f = picture.Bilinear
	}
	switch r.Mode {
	case "stretch":
		p = p.Resize(r.Width, r.Height, p.Whole(), f)
	case "fill":
		p = p.Cover(r.Width, r.Height, f)
	case "fit":
		p = p.Contain(r.Width, r.Height, f)
		left, top := p.Margins(r.Width, r.Height)
		return p, canvas{r.Width, r.Height, left, top}, nil
	case "height":
		width := max((p.Width*r.Height+p.Height-1)/p.Height, 1)
		if width > r.maxWidth() {
			if r.Wider != "squeeze" {
				return p, canvas{}, actions.Errorf(actions.Invalid,
					"the picture is %d×%d pixels, at a height of %d its width is %d; the limit is %d: send a part of it",
					p.Width, p.Height, r.Height, width, r.maxWidth())
			}
			width = r.maxWidth()
		}
		p = p.Resize(width, r.Height, p.Whole(), f)
		return p, canvas{width: max(width, r.MinWidth), height: r.Height}, nil
	}
	return p, canvas{width: p.Width, height: p.Height}, nil
}
