package onnx

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

// A dummy is an input to warm the model with. It is guessed when the model might refuse
// its size.
type dummy struct {
	tensor  tensor
	guessed bool
}

// warm runs the model once and makes an answer, so that a GPU has its kernels, and an
// action that does not fit its model is found at the start. On a CPU the first inference
// takes no longer than the second, so that the input is as small as can be: first a
// narrow one, and where the model refuses it, one of the size that requests have.
//
// When the sizes are known, a failure is an error. Guessed sizes may be refused, and
// then the model is not warm.
func (p *Program) warm(ctx context.Context) (bool, error) {
	in, guessed, err := p.dummies(true)
	if err != nil {
		return false, err
	}
	err = p.rehearse(ctx, in)
	if err != nil && guessed {
		if in, guessed, err = p.dummies(false); err == nil {
			err = p.rehearse(ctx, in)
		}
	}
	if err != nil && guessed && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

func (p *Program) rehearse(ctx context.Context, in []tensor) error {
	out, err := p.session.run(ctx, in)
	if err == nil {
		_, err = p.respond(out, "")
	}
	if errors.Is(err, errNotFinite) { // a dummy may well be out of the model's range
		return nil
	}
	return err
}

func (p *Program) dummies(narrow bool) (in []tensor, guessed bool, err error) {
	for _, s := range p.steps {
		d, err := s.dummy(narrow)
		if err != nil {
			return nil, false, fmt.Errorf("inputs: %s: %w", s.port.name, err)
		}
		in = append(in, d.tensor)
		guessed = guessed || d.guessed
	}
	return in, guessed, nil
}

func (s step) dummy(narrow bool) (dummy, error) {
	if s.image != nil {
		return s.image.dummy(s.port, narrow)
	}
	shape, guessed := slices.Clone(s.port.shape), s.port.shape == nil
	for i, size := range shape {
		if size < 0 {
			shape[i], guessed = 1, true
		}
	}
	n := elements(shape, 1<<32)
	if n < 0 {
		return dummy{}, errors.New("its shape is too large")
	}
	return dummy{tensor{s.port.kind, shape, makeData(s.port.kind, int(n))}, guessed}, nil
}

// dummy makes the tensor of a black pixel.
func (s *imageStep) dummy(p port, narrow bool) (dummy, error) {
	const enough = 32 // the width that convolutions need, as a rule
	r, guessed := s.Resize, s.Resize.Mode == "" || s.Resize.Mode == "none"
	width := 3
	if s.Layout == "nhwc" {
		width = 2
	}
	if narrow && r.Mode == "height" && r.MinWidth > enough && (p.shape == nil || p.shape[width] < 0) {
		r.MinWidth, guessed = enough, true
	}
	t, err := s.tensorIn(picture.New(1, 1, 3), r)
	if err != nil {
		return dummy{}, err
	}
	if why := p.fits(t.shape); why != "" && !guessed {
		return dummy{}, errors.New(why)
	}
	return dummy{t, guessed}, nil
}
