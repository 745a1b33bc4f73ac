package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/controller"
	"github.com/deepfn/deepfn/runtime/store"
)

// A catalog has models, and counts what is imported.
type catalog struct {
	mu       sync.Mutex
	models   map[string]actions.Model
	imported []actions.Source
	fail     error // of Import
	broken   error // of everything
}

func newCatalog() *catalog {
	c := &catalog{models: make(map[string]actions.Model)}
	for _, name := range []string{"digits", "ocr-line"} {
		c.models[name] = actions.Model{
			Name: name, Title: "Reads " + name, Runtime: actions.ONNX,
			Arguments: []actions.Argument{{Name: "image", Type: actions.TypeFile, Required: true, Description: "A picture"}},
		}
	}
	return c
}

func (c *catalog) Models(context.Context) ([]actions.Model, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []actions.Model
	for _, name := range slices.Sorted(maps.Keys(c.models)) {
		all = append(all, c.models[name])
	}
	return all, c.broken
}

func (c *catalog) Model(_ context.Context, name string) (actions.Model, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.models[name]
	if !ok && c.broken == nil {
		return m, actions.Errorf(actions.NotFound, "there is no model %s; there are: digits, ocr-line", name)
	}
	return m, c.broken
}

func (c *catalog) Import(_ context.Context, s actions.Source) (actions.Model, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Data = slices.Clone(s.Data)
	c.imported = append(c.imported, s)
	if c.fail != nil {
		return actions.Model{}, c.fail
	}
	m := actions.Model{Name: s.Name, Runtime: actions.Python, Env: s.Env}
	c.models[s.Name] = m
	return m, nil
}

func (c *catalog) forget(model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.models, model)
}

func (c *catalog) imports() []actions.Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.imported)
}

// A world is a controller with its neighbours.
type world struct {
	*controller.Controller
	store   *store.Store
	catalog *catalog
	path    string
	cfg     controller.Config
	// run answers activations; nil echoes.
	run func(context.Context, actions.Activation) (actions.Response, error)
	// queue waits for an instance; nil does not.
	queue  func(context.Context) error
	mu     sync.Mutex // guards what follows
	ran    []actions.Activation
	forgot []string
}

// open starts a controller with a store of its own.
func open(t *testing.T, change ...func(*controller.Config)) *world {
	t.Helper()
	w := &world{catalog: newCatalog(), path: filepath.Join(t.TempDir(), "whisk.db")}
	w.cfg = controller.Config{Catalog: w.catalog, Run: w.call, Forget: func(model string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forgot = append(w.forgot, model)
		w.catalog.forget(model)
	}}
	for _, f := range change {
		f(&w.cfg)
	}
	w.start(t)
	t.Cleanup(func() { w.stop(t) })
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	var err error
	if w.store, err = store.Open(store.Config{Path: w.path}); err != nil {
		t.Fatal(err)
	}
	w.cfg.Store = w.store
	if w.Controller, err = controller.New(w.cfg); err != nil {
		t.Fatal(err)
	}
}

func (w *world) stop(t *testing.T) {
	t.Helper()
	if err := w.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := w.store.Close(); err != nil {
		t.Error(err)
	}
}

// call is Config.Run.
func (w *world) call(ctx context.Context, in actions.Activation) (actions.Response, error) {
	in.Value, in.Context = slices.Clone(in.Value), slices.Clone(in.Context)
	w.mu.Lock()
	w.ran = append(w.ran, in)
	w.mu.Unlock()
	if w.queue != nil {
		if err := w.queue(ctx); err != nil {
			return actions.Response{}, err
		}
	}
	if err := in.Begin(ctx); err != nil { // the error is not told as it is
		return actions.Response{}, &actions.Error{Code: actions.CodeOf(err), Msg: "no"}
	}
	if w.run == nil {
		return echo(in)
	}
	ctx, cancel := context.WithTimeout(ctx, in.Limit)
	defer cancel()
	return w.run(ctx, in)
}

// echo answers the arguments, under the name of the model.
func echo(in actions.Activation) (actions.Response, error) {
	value := in.Value
	if value == nil {
		value = json.RawMessage("{}")
	}
	return actions.Response{Data: []byte(`{"model":"` + in.Model + `","value":` + string(value) + `}`)}, nil
}

// last is the last activation that ran.
func (w *world) last(t *testing.T) actions.Activation {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ran) == 0 {
		t.Fatal("nothing ran")
	}
	return w.ran[len(w.ran)-1]
}

func name(t *testing.T, text string) whisk.Name {
	t.Helper()
	n, err := whisk.ParseName("/_/"+text, whisk.Own)
	if strings.HasPrefix(text, "/") {
		n, err = whisk.ParseName(text, whisk.Own)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// put puts an entity that must be taken, and returns its document.
func (w *world) put(t *testing.T, c whisk.Collection, entity, body string) string {
	t.Helper()
	doc, err := w.Put(t.Context(), whisk.Guest, c, name(t, entity), json.RawMessage(body), false)
	if err != nil {
		t.Fatalf("%s %s %s: %v", c, entity, body, err)
	}
	return text(t, doc)
}

// update changes an entity that must be taken.
func (w *world) update(t *testing.T, c whisk.Collection, entity, body string) string {
	t.Helper()
	doc, err := w.Put(t.Context(), whisk.Guest, c, name(t, entity), json.RawMessage(body), true)
	if err != nil {
		t.Fatalf("%s %s %s: %v", c, entity, body, err)
	}
	return text(t, doc)
}

func (w *world) entity(t *testing.T, c whisk.Collection, entity string) string {
	t.Helper()
	doc, err := w.Entity(t.Context(), whisk.Guest, c, name(t, entity), true)
	if err != nil {
		t.Fatalf("%s %s: %v", c, entity, err)
	}
	return text(t, doc)
}

// python makes a Python action.
func (w *world) python(t *testing.T, entity, code string) {
	t.Helper()
	w.put(t, whisk.Actions, entity, `{"exec": {"kind": "python:3", "code": `+quote(code)+`}}`)
}

// invoke waits for an activation.
func (w *world) invoke(t *testing.T, action, args string) whisk.Activation {
	t.Helper()
	out, err := w.Invoke(t.Context(), whisk.Guest, name(t, action), whisk.Invocation{Args: json.RawMessage(args), Blocking: true})
	if err != nil || !out.Done {
		t.Fatalf("invoke %s: got %+v, %v", action, out, err)
	}
	return out.Activation
}

// recorded reads an activation.
func (w *world) recorded(t *testing.T, id string) whisk.Activation {
	t.Helper()
	a, err := w.Activation(t.Context(), whisk.Guest, id)
	if err != nil {
		t.Fatalf("activation %s: %v", id, err)
	}
	return a
}

// text is a document as JSON, with the time of the change as 1.
func text(t *testing.T, doc any) string {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members["updated"] == nil {
		return string(raw)
	}
	if string(members["updated"]) < "1000000000000" {
		t.Errorf("updated is %s", members["updated"])
	}
	return strings.Replace(string(raw), `"updated":`+string(members["updated"]), `"updated":1`, 1)
}

func quote(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

// refused checks an error.
func refused(t *testing.T, what string, err error, code actions.Code, says string) {
	t.Helper()
	if actions.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: got %v (%s), want %s with %q", what, err, actions.CodeOf(err), code, says)
	}
	if e := new(actions.Error); err != nil && !errors.As(err, &e) {
		t.Errorf("%s: %v is no *actions.Error", what, err)
	}
}

// note is an annotation of an activation.
func note(a whisk.Activation, key string) string { return string(a.Annotations.Lookup(key)) }

// word is what an action is told.
func word(in actions.Activation, key string) string {
	for _, w := range in.Context {
		if w.Name == key && w.Origin == actions.FromContext {
			return w.Value
		}
	}
	return ""
}
