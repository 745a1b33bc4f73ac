package onnx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

// A Spec is the onnx section of an action: how arguments become the inputs of a model
// and its outputs an answer. The package documentation describes each key.
type Spec struct {
	// Model is the name of the model among the action's files.
	Model string `json:"model"`
	// Inputs are by the model's own names. One that is not listed is a Tensor whose
	// argument has the same name.
	Inputs map[string]Input `json:"inputs,omitempty"`
	// Output is how the answer is made. The zero value means Tensors, all of them.
	Output Output `json:"output,omitzero"`
}

// An Input says how an input is made. One of its fields is set.
type Input struct {
	Image  *Image  `json:"image,omitempty"`
	Tensor *Tensor `json:"tensor,omitempty"`
}

// A Tensor is an input that the caller sends as numbers, in JSON or as a .npy file.
type Tensor struct {
	Argument string `json:"argument"`
}

// An Image is an input that is made from a picture: decoded, resized, normalised.
type Image struct {
	Argument string `json:"argument"`
	// Color is rgb (also when empty), bgr or gray.
	Color string `json:"color,omitempty"`
	// Resize brings the picture to the size that the model takes.
	Resize Resize `json:"resize,omitzero"`
	// A sample v becomes (v·Scale - Mean) / Std. A Scale of 0 means 1. Mean and Std
	// have one number for all channels or one for each, in the order of Color; when
	// empty they are 0 and 1.
	Scale float64   `json:"scale,omitempty"`
	Mean  []float64 `json:"mean,omitempty"`
	Std   []float64 `json:"std,omitempty"`
	// Layout is nchw (also when empty) or nhwc.
	Layout string `json:"layout,omitempty"`
	// MaxPixels is the most pixels that a picture may have. Zero means
	// picture.MaxPixels.
	MaxPixels int `json:"max_pixels,omitempty"`
	// MaxBytes is the most memory that decoding a picture may take. Zero means
	// picture.MaxBytes.
	MaxBytes int64 `json:"max_bytes,omitempty"`
}

// A Resize says which size a picture gets. The modes are described in the package
// documentation.
type Resize struct {
	Mode   string `json:"mode,omitempty"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	// MinWidth, MaxWidth and Wider are for the mode height. A MaxWidth of 0 means
	// 4096. Wider is refuse (also when empty) or squeeze.
	MinWidth int    `json:"min_width,omitempty"`
	MaxWidth int    `json:"max_width,omitempty"`
	Wider    string `json:"wider,omitempty"`
	// Filter is bilinear when empty.
	Filter picture.Filter `json:"filter,omitempty"`
	// Pad is the colour, 0 to 255, of what the picture does not cover: one number or
	// one for each channel, in the order of Color. When empty the tensor is 0 there.
	Pad []float64 `json:"pad,omitempty"`
}

// An Output says how the answer is made. At most one of its fields is set.
type Output struct {
	Classification *Classification `json:"classification,omitempty"`
	TextLine       *TextLine       `json:"text_line,omitempty"`
	// Tensors are the names of the outputs to answer with. Empty means all.
	Tensors []string `json:"tensors,omitempty"`
}

// A Classification answers with the most likely labels.
type Classification struct {
	// Tensor is the output's name. It may be empty when the model has one output.
	Tensor string `json:"tensor,omitempty"`
	// Softmax turns the output into probabilities first.
	Softmax bool  `json:"softmax,omitempty"`
	Labels  Names `json:"labels"`
	// Top is how many labels the answer lists. Zero means 5.
	Top int `json:"top,omitempty"`
}

// A TextLine answers with a text that is decoded greedily from an output of the kind
// that CTC trains: for each step, a probability for each character and for none.
type TextLine struct {
	Tensor  string `json:"tensor,omitempty"`
	Softmax bool   `json:"softmax,omitempty"`
	// Characters are those of the classes, in their order, without the blank.
	Characters Names `json:"characters"`
	// Space appends a space to Characters.
	Space bool `json:"space,omitempty"`
	// Blank is the class of no character: first (also when empty) or last.
	Blank string `json:"blank,omitempty"`
}

// Names are a list, the lines of one of the action's files, or the lines of an entry of
// the model's own metadata.
type Names struct {
	List     []string `json:"-"`
	File     string   `json:"file,omitempty"`
	Metadata string   `json:"metadata,omitempty"`
}

// UnmarshalJSON reads a list of strings, or an object with file or metadata.
func (n *Names) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		if json.Unmarshal(data, &n.List) != nil {
			return errors.New("a list of names must hold strings; quote those that look like numbers or booleans")
		}
		return nil
	}
	type plain Names
	return actions.DecodeStrict(data, (*plain)(n))
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (n Names) MarshalJSON() ([]byte, error) {
	if n.List != nil {
		return json.Marshal(n.List)
	}
	type plain Names
	return json.Marshal(plain(n))
}

// ParseSpec reads the onnx section of an action, as JSON, and checks what can be
// checked without the model. An error is an *actions.Error with the code Invalid that
// names the key.
func ParseSpec(data json.RawMessage) (Spec, error) {
	var s Spec
	err := actions.DecodeStrict(data, &s)
	if err == nil {
		err = s.validate()
	}
	if err != nil {
		return Spec{}, actions.Errorf(actions.Invalid, "onnx: %w", err)
	}
	return s, nil
}

// Check reads the spec of an action and compares it with the action's arguments and
// files. An error is an *actions.Error with the code Invalid.
func Check(m actions.Model) error {
	s, err := ParseSpec(m.Spec)
	if err != nil {
		return err
	}
	files := func(name string) bool { _, ok := m.Files[name]; return ok }
	if err := s.check(m.Arguments, files); err != nil {
		return actions.Errorf(actions.Invalid, "onnx: %w", err)
	}
	return nil
}

func (s Spec) validate() error {
	if s.Model == "" {
		return errors.New("model: the name of the model's file is missing")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		if err := s.Inputs[name].validate(); err != nil {
			return fmt.Errorf("inputs: %s: %w", name, err)
		}
	}
	if err := s.Output.validate(); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

func (in Input) validate() error {
	switch {
	case (in.Image == nil) == (in.Tensor == nil):
		return errors.New("say either image or tensor")
	case in.Tensor != nil && in.Tensor.Argument == "":
		return errors.New("tensor: argument: the name is missing")
	case in.Image != nil:
		if err := in.Image.validate(); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	return nil
}

func (im Image) validate() error {
	if im.Argument == "" {
		return errors.New("argument: the name is missing")
	}
	if err := oneOf("color", im.Color, "", "rgb", "bgr", "gray"); err != nil {
		return err
	}
	if err := oneOf("layout", im.Layout, "", "nchw", "nhwc"); err != nil {
		return err
	}
	for key, list := range map[string][]float64{"mean": im.Mean, "std": im.Std, "resize: pad": im.Resize.Pad} {
		if n := len(list); n > 1 && n != im.channels() {
			return fmt.Errorf("%s: got %d numbers, want 1 or %d", key, n, im.channels())
		}
	}
	if slices.Contains(im.Std, 0) {
		return errors.New("std: must not be 0")
	}
	if im.MaxPixels < 0 || im.MaxBytes < 0 {
		return errors.New("max_pixels and max_bytes: must not be negative")
	}
	if err := im.Resize.validate(); err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	return nil
}

func (im Image) channels() int {
	if im.Color == "gray" {
		return 1
	}
	return 3
}

// maxSide bounds a side of what a picture is resized to.
const maxSide = 16384

func (r Resize) validate() error {
	if err := oneOf("mode", r.Mode, "", "none", "stretch", "fit", "fill", "height"); err != nil {
		return err
	}
	if r.Filter != "" && !slices.Contains(picture.Filters(), r.Filter) {
		return fmt.Errorf("filter: got %q, want one of %q", r.Filter, picture.Filters())
	}
	if err := oneOf("wider", r.Wider, "", "refuse", "squeeze"); err != nil {
		return err
	}
	for _, v := range r.Pad {
		if v < 0 || v > 255 {
			return fmt.Errorf("pad: got %v, want 0 to 255", v)
		}
	}
	for key, v := range map[string]int{"width": r.Width, "height": r.Height, "min_width": r.MinWidth, "max_width": r.MaxWidth} {
		if v < 0 || v > maxSide {
			return fmt.Errorf("%s: got %d, want 1 to %d", key, v, maxSide)
		}
	}
	return r.validateMode()
}

// validateMode refuses keys that the mode would ignore.
func (r Resize) validateMode() error {
	bounds := r.MinWidth != 0 || r.MaxWidth != 0 || r.Wider != ""
	switch r.Mode {
	case "", "none":
		if r.Width != 0 || r.Height != 0 || bounds || r.Filter != "" || r.Pad != nil {
			return errors.New("without a mode (stretch, fit, fill or height) there must be no other key")
		}
	case "height":
		if r.Height == 0 || r.Width != 0 {
			return errors.New("mode height wants height and no width")
		}
		if r.MinWidth > r.maxWidth() {
			return fmt.Errorf("min_width %d is greater than max_width %d", r.MinWidth, r.maxWidth())
		}
	default:
		if r.Width == 0 || r.Height == 0 || bounds {
			return fmt.Errorf("mode %s wants width and height, and none of min_width, max_width and wider", r.Mode)
		}
		if r.Pad != nil && r.Mode != "fit" {
			return fmt.Errorf("mode %s leaves nothing to pad", r.Mode)
		}
	}
	return nil
}

func (r Resize) maxWidth() int {
	if r.MaxWidth == 0 {
		return 4096
	}
	return r.MaxWidth
}

func (o Output) validate() error {
	n := 0
	for _, set := range []bool{o.Classification != nil, o.TextLine != nil, o.Tensors != nil} {
		if set {
			n++
		}
	}
	if n > 1 {
		return errors.New("say one of classification, text_line and tensors")
	}
	if c := o.Classification; c != nil {
		if c.Top < 0 {
			return errors.New("classification: top: must not be negative")
		}
		if err := c.Labels.validate(); err != nil {
			return fmt.Errorf("classification: labels: %w", err)
		}
	}
	if l := o.TextLine; l != nil {
		if err := oneOf("text_line: blank", l.Blank, "", "first", "last"); err != nil {
			return err
		}
		if err := l.Characters.validate(); err != nil {
			return fmt.Errorf("text_line: characters: %w", err)
		}
	}
	return nil
}

func (n Names) validate() error {
	ways := 0
	for _, set := range []bool{len(n.List) > 0, n.File != "", n.Metadata != ""} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("give a list, or {file: NAME}, or {metadata: KEY}")
	}
	return nil
}

func oneOf(key, got string, want ...string) error {
	if slices.Contains(want, got) {
		return nil
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s == "" })
	return fmt.Errorf("%s: got %q, want %s", key, got, strings.Join(want, ", "))
}

// check compares a valid spec with what else the action says.
func (s Spec) check(args []actions.Argument, file func(string) bool) error {
	types := map[string]actions.ArgumentType{}
	for _, a := range args {
		types[a.Name] = a.Type
	}
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		in, arg, isImage := s.Inputs[name], "", false
		if in.Image != nil {
			arg, isImage = in.Image.Argument, true
		} else {
			arg = in.Tensor.Argument
		}
		switch kind, ok := types[arg]; {
		case !ok:
			return fmt.Errorf("inputs: %s: the action has no argument %q", name, arg)
		case isImage && kind != actions.TypeFile:
			return fmt.Errorf("inputs: %s: argument %q is of type %s, want file", name, arg, kind)
		}
	}
	needed := []string{s.Model}
	if c := s.Output.Classification; c != nil {
		needed = append(needed, c.Labels.File)
	}
	if l := s.Output.TextLine; l != nil {
		needed = append(needed, l.Characters.File)
	}
	for _, name := range needed {
		if name != "" && !file(name) {
			return fmt.Errorf("the action has no file %q", name)
		}
	}
	return nil
}
