package onnx

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// read makes the inputs of the model from a request.
func (p *Program) read(req actions.Request) ([]tensor, error) {
	var args map[string]json.RawMessage
	if len(req.Args) > 0 {
		if err := json.Unmarshal(req.Args, &args); err != nil {
			return nil, actions.Errorf(actions.Invalid, "the arguments are not a JSON object: %w", err)
		}
	}
	in := make([]tensor, len(p.steps))
	for i, s := range p.steps {
		t, err := s.read(req.Files, args)
		if err == nil {
			err = s.check(t)
		}
		if err != nil {
			return nil, invalid(s.argument, err)
		}
		in[i] = t
	}
	return in, nil
}

// invalid says which argument is wrong.
func invalid(argument string, err error) error {
	msg := err.Error()
	return &actions.Error{
		Code: actions.Invalid, Msg: argument + ": " + msg, Err: err,
		Fields: map[string][]string{argument: {msg}},
	}
}

// read makes one input from the argument's file or, for a tensor, its JSON.
func (s step) read(files []actions.File, args map[string]json.RawMessage) (tensor, error) {
	var found *actions.File
	for i := range files {
		if files[i].Name != s.argument {
			continue
		}
		if found != nil {
			return tensor{}, errors.New("got more than one file, want one")
		}
		found = &files[i]
	}
	value, inJSON := args[s.argument]
	switch {
	case found != nil && s.image != nil:
		return s.image.decode(found.Data)
	case found != nil:
		t, err := s.file(*found)
		if err != nil {
			return tensor{}, err
		}
		return t.as(s.port.kind)
	case inJSON && s.image != nil:
		return tensor{}, errors.New("got a JSON value, want a picture: a file")
	case inJSON:
		return parseTensor(value, s.port.kind)
	}
	return tensor{}, errors.New("the argument is missing")
}

// file reads a tensor from a .npy file, or from JSON that was sent as a file.
func (s step) file(f actions.File) (tensor, error) {
	if media, _, _ := strings.Cut(f.ContentType, ";"); strings.TrimSpace(media) == typeJSON {
		return parseTensor(f.Data, s.port.kind)
	}
	return parseNPY(f.Data)
}

// check compares a tensor with what the model takes.
func (s step) check(t tensor) error {
	if why := s.port.fits(t.shape); why != "" {
		return errors.New(why)
	}
	if t.kind != s.port.kind {
		return fmt.Errorf("got elements of type %s, want %s", t.kind, s.port.kind)
	}
	return nil
}
