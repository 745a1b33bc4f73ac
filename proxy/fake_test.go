package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// fakeInvoker answers with its arguments, or as its knobs say.
type fakeInvoker struct {
	answer func(ctx context.Context, req actions.Request) (actions.Response, error)
	info   json.RawMessage
	stats  []actions.PoolStats

	mu   sync.Mutex // guards last and calls
	last actions.Request
	n    int
}

func (f *fakeInvoker) Invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	kept := req
	kept.Args = bytes.Clone(req.Args)
	kept.Texts = slices.Clone(req.Texts)
	kept.Files = nil
	for _, file := range req.Files {
		file.Data = bytes.Clone(file.Data)
		kept.Files = append(kept.Files, file)
	}
	f.mu.Lock()
	f.last, f.n = kept, f.n+1
	f.mu.Unlock()
	if f.answer != nil {
		return f.answer(ctx, req)
	}
	return actions.Response{ContentType: jsonType, Data: kept.Args}, nil
}

func (f *fakeInvoker) Info(string) json.RawMessage { return f.info }
func (f *fakeInvoker) Stats() []actions.PoolStats  { return f.stats }

func (f *fakeInvoker) lastRequest() actions.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *fakeInvoker) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// failing makes an answer that is an error.
func failing(err error) func(context.Context, actions.Request) (actions.Response, error) {
	return func(context.Context, actions.Request) (actions.Response, error) { return actions.Response{}, err }
}

// answering makes an answer of that type.
func answering(contentType, data string) func(context.Context, actions.Request) (actions.Response, error) {
	return func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{ContentType: contentType, Data: []byte(data)}, nil
	}
}

// fakeCatalog has the models echo and other, or fails.
type fakeCatalog struct{ err error }

func (f fakeCatalog) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{echoModel("echo"), {Name: "other", Runtime: "onnx"}}, f.err
}

func (f fakeCatalog) Model(ctx context.Context, name string) (actions.Model, error) {
	models, err := f.Models(ctx)
	if err != nil {
		return actions.Model{}, err
	}
	for _, m := range models {
		if m.Name == name {
			return m, nil
		}
	}
	return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q; there are echo, other", name)
}

func (fakeCatalog) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Invalid, "it is no code")
}

func echoModel(name string) actions.Model {
	return actions.Model{
		Name: name, Runtime: "onnx", Version: "1.2", Title: "Echo", Description: "Answers what it is given.",
		License: "MIT", Author: "A. Person",
		Arguments: []actions.Argument{
			{Name: "text", Type: actions.TypeString},
			{Name: "n", Type: actions.TypeInteger},
			{Name: "numbers", Type: actions.TypeArray},
			{Name: "object", Type: actions.TypeObject},
			{Name: "image", Type: actions.TypeFile},
		},
	}
}

// strictCatalog has one model, with a required argument.
type strictCatalog struct{ fakeCatalog }

func (strictCatalog) Model(context.Context, string) (actions.Model, error) {
	return actions.Model{Name: "strict", Runtime: actions.ONNX, Arguments: []actions.Argument{
		{Name: "text", Type: actions.TypeString, Required: true},
	}}, nil
}

// oneModel is a catalog of one model.
type oneModel struct{ m actions.Model }

func (o oneModel) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{o.m}, nil
}

func (o oneModel) Model(_ context.Context, name string) (actions.Model, error) {
	if name != o.m.Name {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q; there is %s", name, o.m.Name)
	}
	return o.m, nil
}

func (oneModel) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, errors.New("not reached")
}

// module is a catalog of a model that parses its own arguments.
func module() oneModel { return oneModel{actions.Model{Name: "mod", Runtime: actions.Python}} }

// streams are the two streams of the activations and the log.
type streams struct{ out, err, log lockedBuffer }

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newServer makes a server of a Config, whose empty fields it fills with fakes.
func newServer(tb testing.TB, cfg Config) (*Server, *streams) {
	tb.Helper()
	st := &streams{}
	if cfg.Invoker == nil {
		cfg.Invoker = &fakeInvoker{}
	}
	if cfg.Catalog == nil {
		cfg.Catalog = fakeCatalog{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(&st.log, nil))
	}
	cfg.Stdout, cfg.Stderr = &st.out, &st.err
	return New(cfg), st
}

// post sends a body to a handler without a server between.
func post(tb testing.TB, s *Server, path, body string) response {
	tb.Helper()
	return s.handle(tb.Context(), &request{
		method: http.MethodPost, path: path, contentType: jsonType, id: "id-1", body: []byte(body),
	})
}

func get(tb testing.TB, s *Server, path string) response {
	tb.Helper()
	return s.handle(tb.Context(), &request{method: http.MethodGet, path: path, id: "id-1"})
}

// wantResponse compares status and body; a body that ends in … is a beginning.
func wantResponse(tb testing.TB, got response, status int, body string) {
	tb.Helper()
	text := string(got.body)
	if start, ok := strings.CutSuffix(body, "…"); ok && strings.HasPrefix(text, start) {
		body = text
	}
	if got.status != status || text != body {
		tb.Errorf("got %d %s, want %d %s", got.status, text, status, body)
	}
	if got.status != http.StatusOK && got.contentType != jsonType {
		tb.Errorf("got content type %q of an error, want JSON", got.contentType)
	}
}

// wantSentinels wants n of them on each stream.
func wantSentinels(tb testing.TB, st *streams, n int) {
	tb.Helper()
	out := strings.Count(st.out.String(), sentinel+"\n")
	err := strings.Count(st.err.String(), sentinel+"\n")
	if out != n || err != n {
		tb.Errorf("got %d and %d sentinels on stdout and stderr, want %d", out, err, n)
	}
}
