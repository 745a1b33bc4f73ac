package onnx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A Program serves one ONNX model. Start comes first and once; then many may call Call
// at a time.
type Program struct {
	session *session
	steps   []step
	answer  answer
}

// New returns a Program that has not been started.
func New() *Program { return &Program{} }

// A step makes one input of the model. One of its fields is set.
type step struct {
	argument string
	port     port
	image    *imageStep // nil for a tensor
}

// An answer makes the response. Without its fields, the outputs are the answer.
type answer struct {
	classifier *classifier
	line       *lineReader
}

// Start loads the model that setup, a Setup in JSON, describes, and runs it once. The
// information that it returns is an Info. Its errors are for the person who runs the
// server or wrote the action.
func (p *Program) Start(ctx context.Context, setup json.RawMessage) (any, error) {
	var c Setup
	if err := actions.DecodeStrict(setup, &c); err != nil {
		return nil, fmt.Errorf("onnx: setup: %w", err)
	}
	info, err := p.start(ctx, c)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("onnx: %w", err)
	}
	return info, nil
}

// Close frees the model. A process that ends need not call it.
func (p *Program) Close() {
	if p.session != nil {
		p.session.close()
		p.session = nil
	}
}

func (p *Program) start(ctx context.Context, c Setup) (Info, error) {
	began := time.Now()
	if err := oneOf("device", c.Device, "", "auto", "cpu", "cuda"); err != nil {
		return Info{}, err
	}
	spec, err := ParseSpec(c.Spec)
	if err != nil {
		return Info{}, err
	}
	if err := spec.check(c.Arguments, func(name string) bool { return c.Files[name] != "" }); err != nil {
		return Info{}, err
	}
	path := c.Files[spec.Model]
	m, err := inspect(path)
	if err != nil {
		return Info{}, fmt.Errorf("model %s: %w", filepath.Base(path), err)
	}
	outputs, err := p.plan(spec, m, c)
	if err != nil {
		return Info{}, err
	}
	version, err := openLibrary(c.Library)
	if err != nil {
		return Info{}, err
	}
	threads := max(c.Threads, 1)
	p.session, err = openSession(sessionConfig{
		path: path, inputs: m.inputs, outputs: outputs, threads: threads, device: c.Device, accelerate: appendCUDA,
		cache: newCache(c.CacheDir, c.SHA256[spec.Model], version, fmt.Sprint(providerCPU, threads)),
	})
	if err != nil {
		return Info{}, fmt.Errorf("model %s: %w", filepath.Base(path), err)
	}
	info := Info{
		Provider: p.session.provider, Version: version, Threads: threads, Cache: p.session.cache,
		Inputs: portsOf(m.inputs), Outputs: portsOf(outputs), LoadSeconds: time.Since(began).Seconds(),
	}
	began = time.Now()
	info.Warm, err = p.warm(ctx)
	info.WarmSeconds = time.Since(began).Seconds()
	return info, err
}

// plan fits the spec to the model. It returns the outputs that are needed.
func (p *Program) plan(spec Spec, m model, c Setup) ([]port, error) {
	for name := range spec.Inputs {
		if !slices.Contains(names(m.inputs), name) {
			return nil, fmt.Errorf("inputs: the model has no input %q but %q", name, names(m.inputs))
		}
	}
	for _, in := range m.inputs {
		s, err := newStep(spec.Inputs[in.name], in, c.Arguments)
		if err != nil {
			return nil, fmt.Errorf("inputs: %s: %w", in.name, err)
		}
		p.steps = append(p.steps, s)
	}
	wanted := spec.Output.Tensors
	var err error
	switch o := spec.Output; {
	case o.Classification != nil:
		wanted = []string{o.Classification.Tensor}
		err = p.planClassifier(*o.Classification, m, c)
	case o.TextLine != nil:
		wanted = []string{o.TextLine.Tensor}
		var characters []string
		characters, err = o.TextLine.Characters.read(m, c)
		p.answer.line = newLineReader(*o.TextLine, characters)
	}
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	outputs, err := m.choose(wanted)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	return outputs, nil
}

func newStep(in Input, p port, args []actions.Argument) (step, error) {
	if in.Image != nil {
		s, err := newImageStep(*in.Image, p)
		return step{in.Image.Argument, p, s}, err
	}
	argument := p.name
	if in.Tensor != nil {
		argument = in.Tensor.Argument
	}
	if !slices.ContainsFunc(args, func(a actions.Argument) bool { return a.Name == argument }) {
		return step{}, fmt.Errorf("the action has no argument %q", argument)
	}
	if !p.kind.known() {
		return step{}, errors.New("it is not a tensor of numbers, booleans or strings")
	}
	return step{argument: argument, port: p}, nil
}

func (p *Program) planClassifier(c Classification, m model, setup Setup) error {
	labels, err := c.Labels.read(m, setup)
	if err != nil {
		return err
	}
	top := c.Top
	if top == 0 {
		top = 5
	}
	p.answer.classifier = &classifier{c.Softmax, labels, top}
	return nil
}

// choose returns the outputs of those names. Without names it returns all; an empty
// name stands for the only one.
func (m model) choose(wanted []string) ([]port, error) {
	outputs := m.outputs
	if len(wanted) == 1 && wanted[0] == "" {
		if len(outputs) != 1 {
			return nil, fmt.Errorf("the model has the outputs %q; name one as tensor", names(outputs))
		}
	} else if len(wanted) > 0 {
		outputs = nil
		for _, name := range wanted {
			i := slices.IndexFunc(m.outputs, func(p port) bool { return p.name == name })
			if i < 0 {
				return nil, fmt.Errorf("the model has no output %q but %q", name, names(m.outputs))
			}
			outputs = append(outputs, m.outputs[i])
		}
	}
	for _, p := range outputs {
		if err := p.supported(); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return outputs, nil
}

// read returns the names, wherever they are.
func (n Names) read(m model, c Setup) ([]string, error) {
	text := ""
	switch {
	case n.List != nil:
		return n.List, nil
	case n.File != "":
		data, err := os.ReadFile(c.Files[n.File])
		if err != nil {
			return nil, err
		}
		text = string(data)
	default:
		var ok bool
		if text, ok = m.metadata[n.Metadata]; !ok {
			return nil, fmt.Errorf("the model's metadata has no entry %q", n.Metadata)
		}
	}
	// A line may hold a space, which is a character too.
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\r")
	}
	return lines, nil
}

// Call answers one request. Its errors are *actions.Error: Invalid when an argument is
// missing or wrong, Unsupported for a verb other than predict and predict-many or for a media type that
// the answer cannot have, Failed when the model raised an error, Deadline and Canceled
// when ctx ended first.
func (p *Program) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if p.session == nil {
		return actions.Response{}, actions.Errorf(actions.Internal, "the model has not been started")
	}
	switch req.Verb {
	case "", actions.Predict:
		return p.predict(ctx, req)
	case actions.PredictMany:
		return p.predictMany(ctx, req)
	default:
		return actions.Response{}, actions.Errorf(actions.Unsupported, "the model cannot %s; it can predict", req.Verb)
	}
}

func (p *Program) predict(ctx context.Context, req actions.Request) (actions.Response, error) {
	// What the answer takes is given back when it is made; what the arguments take,
	// before the model needs memory of its own.
	spent := allocated()
	defer func() { giveBack(spent) }()
	in, err := p.read(req)
	if err != nil {
		return actions.Response{}, err
	}
	spent = giveBack(spent)
	out, err := p.session.run(ctx, in)
	if err != nil {
		return actions.Response{}, typed(err)
	}
	r, err := p.respond(out, req.Accept)
	return r, typed(err)
}

func (p *Program) respond(out []tensor, accept string) (actions.Response, error) {
	switch a := p.answer; {
	case a.classifier != nil:
		v, err := a.classifier.answer(out[0])
		if err != nil {
			return actions.Response{}, err
		}
		return jsonAnswer(v, accept)
	case a.line != nil:
		v, err := a.line.answer(out[0])
		if err != nil {
			return actions.Response{}, err
		}
		return jsonAnswer(v, accept)
	}
	return tensorsAnswer(p.session.outputs, out, accept)
}

// typed makes an error one that callers know.
func typed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		return e
	}
	return actions.Errorf(actions.Failed, "%w", err)
}
