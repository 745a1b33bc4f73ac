package batch_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

// A memory is a store of many processes.
type memory struct {
	mu      sync.Mutex // guards objects
	objects map[string][]byte
}

func newMemory(objects map[string]string) *memory {
	m := &memory{objects: map[string][]byte{}}
	for url, text := range objects {
		m.objects[url] = []byte(text)
	}
	return m
}

// below returns the objects below a prefix, without it.
func (m *memory) below(prefix string) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]string{}
	for url, data := range m.objects {
		if name, ok := strings.CutPrefix(url, prefix); ok {
			all[name] = string(data)
		}
	}
	return all
}

// A client is the store as one process sees it. It can be made to fail.
type client struct {
	*memory
	// fault is asked before each request; nil is none. lost is asked after one that changes
	// something: with an error it was done, and nobody hears of it.
	fault, lost func(op, url string) error
}

func (c *client) ask(ctx context.Context, op, url string) error {
	if err := ctx.Err(); err != nil {
		return actions.Errorf(actions.Canceled, "%s: %w", url, err)
	}
	if c.fault == nil {
		return nil
	}
	return c.fault(op, url)
}

func (c *client) told(op, url string) error {
	if c.lost == nil {
		return nil
	}
	return c.lost(op, url)
}

func (c *client) find(url string) (actions.Object, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, ok := c.objects[url]
	if !ok {
		return actions.Object{}, nil, actions.Errorf(actions.NotFound, "there is no %s", url)
	}
	return actions.Object{URL: url, Size: int64(len(data)), ETag: fmt.Sprintf("%x", md5.Sum(data))}, data, nil
}

func (c *client) Stat(ctx context.Context, url string) (actions.Object, error) {
	if err := c.ask(ctx, "stat", url); err != nil {
		return actions.Object{}, err
	}
	o, _, err := c.find(url)
	return o, err
}

func (c *client) List(ctx context.Context, prefix string) iter.Seq2[actions.Object, error] {
	return func(yield func(actions.Object, error) bool) {
		if err := c.ask(ctx, "list", prefix); err != nil {
			yield(actions.Object{}, err)
			return
		}
		names := c.below(prefix)
		for _, name := range slices.Sorted(keysOf(names)) {
			if o, _, err := c.find(prefix + name); err == nil && !yield(o, nil) {
				return
			}
		}
	}
}

func keysOf(m map[string]string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range m {
			if !yield(name) {
				return
			}
		}
	}
}

func (c *client) Open(ctx context.Context, url string, offset, length int64) (io.ReadCloser, error) {
	if err := c.ask(ctx, "open", url); err != nil {
		return nil, err
	}
	_, data, err := c.find(url)
	if err != nil {
		return nil, err
	}
	data = data[min(offset, int64(len(data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (c *client) Put(ctx context.Context, url string, body io.ReadSeeker, size int64, opts actions.PutOptions) error {
	if err := c.ask(ctx, "put", url); err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return fmt.Errorf("put %s: got %d bytes, told %d", url, len(data), size)
	}
	c.mu.Lock()
	_, there := c.objects[url]
	if !there || !opts.Once {
		c.objects[url] = data
	}
	c.mu.Unlock()
	if there && opts.Once {
		return actions.Errorf(actions.Conflict, "there is a %s", url)
	}
	return c.told("put", url)
}

func (c *client) Copy(ctx context.Context, from, to string) error {
	if err := c.ask(ctx, "copy", to); err != nil {
		return err
	}
	_, data, err := c.find(from)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.objects[to] = data
	c.mu.Unlock()
	return c.told("copy", to)
}

func (c *client) Remove(ctx context.Context, url string) error {
	if err := c.ask(ctx, "remove", url); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.objects, url)
	c.mu.Unlock()
	return c.told("remove", url)
}

func (c *client) Tidy(ctx context.Context, prefix string) error { return c.ask(ctx, "tidy", prefix) }

// away is what a store says that may be there later.
func away(format string, args ...any) error {
	e := actions.Errorf(actions.Unavailable, format, args...)
	e.RetryAfter = time.Second
	return e
}

// errKilled is what a process sees of the world that is not there any more.
var errKilled = errors.New("killed")

// A life counts what a process does, and ends it.
type life struct {
	mu   sync.Mutex // guards left
	left int        // requests until it is killed; negative: never
}

func (l *life) take() (alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 {
		return false
	}
	l.left--
	return true
}

// A model is an engine's model, which doubles the number "n" of a row.
type model struct {
	mu     sync.Mutex // guards what follows
	asked  map[string]int
	fault  func(args string) error
	during func(args string)
}

func newModel() *model { return &model{asked: map[string]int{}} }

func (m *model) Invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	if err := ctx.Err(); err != nil {
		return actions.Response{}, actions.Errorf(actions.Canceled, "call: %w", err)
	}
	if req.Verb == actions.PredictMany {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "one at a time")
	}
	args := string(req.Args)
	m.mu.Lock()
	m.asked[args]++
	fault, during := m.fault, m.during
	m.mu.Unlock()
	if during != nil {
		during(args)
	}
	if fault != nil {
		if err := fault(args); err != nil {
			return actions.Response{}, err
		}
	}
	return answer(req)
}

func answer(req actions.Request) (actions.Response, error) {
	var row struct {
		N    *int   `json:"n"`
		Word string `json:"word"`
	}
	if err := json.Unmarshal(req.Args, &row); err != nil {
		return actions.Response{}, actions.Errorf(actions.Invalid, "arguments: %w", err)
	}
	if len(req.Files) == 1 {
		return actions.Response{ContentType: "application/json", Data: fmt.Appendf(nil, `{"size":%d}`, len(req.Files[0].Data))}, nil
	}
	if row.N == nil {
		return actions.Response{}, actions.Errorf(actions.Invalid, "n is required")
	}
	return actions.Response{ContentType: "application/json", Data: fmt.Appendf(nil, `{"twice":%d}`, 2**row.N)}, nil
}

// calls is how many there were, of all rows.
func (m *model) calls() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, count := range m.asked {
		n += count
	}
	return n
}

// An option changes the Config of an engine.
type option func(*batch.Config)

// newEngine makes an engine, which is a process of its own.
func newEngine(t *testing.T, store batch.Store, m *model, options ...option) *batch.Engine {
	t.Helper()
	cfg := batch.Config{
		Store: store, Invoke: m.Invoke, TempDir: t.TempDir(),
		Model: func(_ context.Context, name string) (actions.Model, error) {
			if name != "twice" {
				return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q", name)
			}
			return actions.Model{Name: "twice", Version: "1", Runtime: actions.Executable}, nil
		},
		Describe: func(context.Context, actions.Model) (*actions.Description, error) {
			return &actions.Description{Predict: &actions.Signature{Parameters: []actions.Parameter{
				{Argument: actions.Argument{Name: "n", Type: actions.TypeInteger}},
				{Argument: actions.Argument{Name: "file", Type: actions.TypeFile}},
			}}}, nil
		},
		Patience: time.Minute,
	}
	for _, o := range options {
		o(&cfg)
	}
	e, err := batch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const (
	input  = "mem://in/rows.ndjson"
	output = "mem://out/"
)

// numbers is an input of n rows.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"r%d","n":%d}`+"\n", i, i)
	}
	return b.String()
}

// someBatch is a batch of the input in chunks of ten rows.
func someBatch() actions.Batch {
	return actions.Batch{
		Model: "twice", Input: actions.BatchInput{URL: input, Key: "id"}, Output: actions.BatchOutput{URL: output}, ChunkRows: 10,
		Map: map[string]string{"n": "n"},
	}
}

// undisturbed is what a batch gives that nothing disturbs.
func undisturbed(t *testing.T, objects map[string]string, b actions.Batch) map[string]string {
	t.Helper()
	m := newMemory(objects)
	if _, err := newEngine(t, &client{memory: m}, newModel()).Run(t.Context(), "a", b, batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	return m.below(output)
}
