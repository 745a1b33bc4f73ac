package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// A served node is one that a test has started.
type served struct {
	*Node
	path string
	pool *fakePool
	stop func() error
}

// serve starts a node that ends with the test.
func serve(t *testing.T, cfg Config) *served {
	t.Helper()
	return serveAt(t, filepath.Join(t.TempDir(), "n"), cfg)
}

func serveAt(t *testing.T, path string, cfg Config) *served {
	t.Helper()
	s := &served{path: path}
	if cfg.Pool == nil {
		s.pool = &fakePool{}
		cfg.Pool = s.pool
	}
	if cfg.Catalog == nil {
		cfg.Catalog = fakeCatalog{}
	}
	if cfg.Forget == nil {
		cfg.Forget = func(model string) { s.pool.say("forget " + model) }
	}
	ln, err := Listen(t.Context(), path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.Node = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }() // ends with cancel
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// relay connects to a node until the test ends.
func (s *served) relay(t *testing.T) *Relay {
	t.Helper()
	return relayTo(t, RelayConfig{Path: s.path})
}

func relayTo(t *testing.T, cfg RelayConfig) *Relay {
	t.Helper()
	r := NewRelay(cfg)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("after %v there is not: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// wantCode checks the code of an error.
func wantCode(t *testing.T, err error, code actions.Code, texts ...string) *actions.Error {
	t.Helper()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != code {
		t.Fatalf("got %v, want an error %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(e.Msg, text) {
			t.Errorf("message %q does not contain %q", e.Msg, text)
		}
	}
	return e
}

func TestAllCrosses(t *testing.T) {
	type arrived struct {
		req      actions.Request
		deadline time.Time
	}
	came := make(chan arrived, 1)
	answer := actions.Response{
		ContentType: "image/png", Filename: "a.png", Data: []byte("picture"), Whole: true,
		Logs:   []actions.LogLine{{Stream: actions.Stdout, Text: "one"}, {Stream: actions.Stderr, Text: ""}, {Stream: actions.Stdout, Text: "three"}},
		Timing: actions.Timing{Queue: 1, Start: 2, Cold: true, From: actions.TierCache, Run: 3},
	}
	pool := &fakePool{invoke: func(ctx context.Context, req actions.Request) (actions.Response, error) {
		deadline, _ := ctx.Deadline()
		came <- arrived{clone(req), deadline}
		return answer, nil
	}}
	r := serve(t, Config{Pool: pool}).relay(t)
	begun := 0
	req := actions.Request{
		Model: "m", Verb: actions.Train, ID: "id", Args: []byte(`{"a":1}`), Accept: "image/png", Limit: time.Minute,
		Texts:  []actions.Text{{Origin: actions.FromQuery, Name: "q", Value: "v"}, {Origin: actions.FromContext, Name: "__OW_API_KEY", Value: "k"}},
		Files:  []actions.File{{Name: "f", Filename: "f.bin", ContentType: "x/y", Data: []byte{0, 1, 2}}, {Name: "f", Data: []byte("second")}},
		Trace:  actions.Trace{Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", State: "vendor=1"},
		Buffer: make([]byte, 0, 100),
		Begin:  func(context.Context) error { begun++; return nil },
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := r.Invoke(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	got := <-came
	want := req
	want.Begin, want.Buffer = nil, nil
	if diff := cmp.Diff(want, got.req); diff != "" {
		t.Errorf("the request (-sent +got):\n%s", diff)
	}
	if resp.Timing.Queue < answer.Timing.Queue {
		t.Errorf("got a wait of %v, want %v and what it took to connect", resp.Timing.Queue, answer.Timing.Queue)
	}
	resp.Timing.Queue = answer.Timing.Queue
	if diff := cmp.Diff(answer, resp); diff != "" {
		t.Errorf("the response (-sent +got):\n%s", diff)
	}
	if &resp.Data[0] != &req.Buffer[:1][0] {
		t.Error("the answer is not in the buffer of the request")
	}
	sent, _ := ctx.Deadline()
	if early := sent.Sub(got.deadline); early < 0 || early > answerTime {
		t.Errorf("the node's deadline is %v before the caller's, want up to %v", early, answerTime)
	}
	if begun != 1 {
		t.Errorf("Begin was called %d times, want 1", begun)
	}
}

// clone copies a request whose bytes are in shared memory.
func clone(req actions.Request) actions.Request {
	req.Args = slices.Clone(req.Args)
	req.Files = slices.Clone(req.Files)
	for i := range req.Files {
		req.Files[i].Data = slices.Clone(req.Files[i].Data)
	}
	req.Buffer = nil
	return req
}

func TestErrorsCross(t *testing.T) {
	logs := []actions.LogLine{{Stream: actions.Stderr, Text: "a trace"}}
	for _, test := range []struct {
		name string
		err  error
		want actions.Error
		is   error
	}{
		{
			"with all",
			&actions.Error{
				Code: actions.Invalid, Msg: "wrong", Fields: map[string][]string{"a": {"x", "y"}}, Status: 418,
				RetryAfter: 2 * time.Second, Logs: logs, Err: errors.New("a cause"),
			},
			actions.Error{
				Code: actions.Invalid, Msg: "wrong", Fields: map[string][]string{"a": {"x", "y"}}, Status: 418,
				RetryAfter: 2 * time.Second, Logs: logs,
			},
			nil,
		},
		{
			"a death",
			&actions.Error{Code: actions.Unavailable, Msg: "exit status 1", Err: errors.Join(actions.ErrDied)},
			actions.Error{Code: actions.Unavailable, Msg: "exit status 1"},
			actions.ErrDied,
		},
		{
			"a death while loading",
			&actions.Error{Code: actions.Failed, Msg: "no", Err: actions.ErrDiedLoading},
			actions.Error{Code: actions.Failed, Msg: "no"},
			actions.ErrDiedLoading,
		},
		{"our own fault", errors.New("a fault"), actions.Error{Code: actions.Internal, Msg: "a fault"}, nil},
		{"a deadline", context.DeadlineExceeded, actions.Error{Code: actions.Deadline, Msg: "context deadline exceeded"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			timing := actions.Timing{Start: 5, From: actions.TierDisk}
			pool := &fakePool{invoke: func(context.Context, actions.Request) (actions.Response, error) {
				return actions.Response{Timing: timing}, test.err
			}}
			resp, err := serve(t, Config{Pool: pool}).relay(t).Invoke(t.Context(), actions.Request{Model: "m"})
			e := wantCode(t, err, test.want.Code)
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not in the chain of %v", test.is, err)
			}
			got := *e
			got.Err = nil
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the error (-want +got):\n%s", diff)
			}
			if resp.Timing.Start != timing.Start || resp.Timing.From != timing.From {
				t.Errorf("got %+v, want the timing %+v", resp.Timing, timing)
			}
		})
	}
}

func TestPanicInThePool(t *testing.T) {
	pool := &fakePool{invoke: func(_ context.Context, req actions.Request) (actions.Response, error) {
		if req.ID == "bad" {
			panic("ouch")
		}
		return actions.Response{}, nil
	}}
	r := serve(t, Config{Pool: pool}).relay(t)
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m", ID: "bad"})
	wantCode(t, err, actions.Internal, "ouch")
	if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestBeginRefuses(t *testing.T) {
	var called atomic.Bool
	pool := &fakePool{invoke: func(context.Context, actions.Request) (actions.Response, error) {
		called.Store(true)
		return actions.Response{}, nil
	}}
	r := serve(t, Config{Pool: pool}).relay(t)
	no := errors.New("no")
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m", Begin: func(context.Context) error { return no }})
	if !errors.Is(err, no) || called.Load() {
		t.Errorf("got %v, called %v; want %v and no call", err, called.Load(), no)
	}
}

func TestSizes(t *testing.T) {
	const limit = 65 << 20
	r := serve(t, Config{MaxPayload: limit}).relay(t)
	for _, size := range []int{0, 1, 63, 64, 65, 4096, 1 << 20, 64 << 20} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7)
		}
		for _, filename := range []string{"", strings.Repeat("n", 500)} {
			pool := actions.Request{Model: "m", Files: []actions.File{{Name: filename, ContentType: "a/b", Data: data}}}
			resp, err := r.Invoke(t.Context(), pool)
			if err != nil || !slices.Equal(resp.Data, data) {
				t.Errorf("%d bytes: got %d other ones, %v", size, len(resp.Data), err)
			}
		}
	}
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m", Args: make([]byte, limit)})
	wantCode(t, err, actions.TooLarge)
	// The lane is free again.
	if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Error(err)
	}
}

func TestResponseOverTheLimit(t *testing.T) {
	pool := &fakePool{invoke: func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{Data: make([]byte, 1<<20), Logs: []actions.LogLine{{Stream: actions.Stdout, Text: "kept"}}}, nil
	}}
	r := serve(t, Config{Pool: pool, MaxPayload: 1 << 20}).relay(t)
	resp, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	wantCode(t, err, actions.TooLarge)
	if len(resp.Logs) != 1 {
		t.Errorf("got the lines %v, want what was printed", resp.Logs)
	}
}

// TestResponseOutsideTheBuffer has strings that take the place where the answer is.
func TestResponseOutsideTheBuffer(t *testing.T) {
	pool := &fakePool{invoke: func(_ context.Context, req actions.Request) (actions.Response, error) {
		return actions.Response{Filename: strings.Repeat("f", 300), Data: append(req.Buffer[:0], "the answer"...)}, nil
	}}
	r := serve(t, Config{Pool: pool}).relay(t)
	resp, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	if err != nil || string(resp.Data) != "the answer" || len(resp.Filename) != 300 {
		t.Errorf("got %q of a name of %d bytes, %v", resp.Data, len(resp.Filename), err)
	}
}

func TestManyCallsOfOneRelay(t *testing.T) {
	const calls = 200
	var running, most atomic.Int64
	release := make(chan struct{})
	pool := &fakePool{invoke: func(_ context.Context, req actions.Request) (actions.Response, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-release
		return actions.Response{Data: append(req.Buffer[:0], req.ID...)}, nil
	}}
	r := serve(t, Config{Pool: pool}).relay(t)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			id := strings.Repeat("x", i+1)
			if resp, err := r.Invoke(t.Context(), actions.Request{Model: "m", ID: id}); err != nil || string(resp.Data) != id {
				t.Errorf("call %d: got the answer of %d, %v", i, len(resp.Data)-1, err)
			}
		})
	}
	eventually(t, "a call on each lane", func() bool { return running.Load() == 63 })
	if err := r.Ready(); err != nil {
		t.Errorf("a question while all lanes are taken: %v", err)
	}
	close(release)
	wg.Wait()
	if most.Load() != 63 {
		t.Errorf("got %d calls at a time, want 63", most.Load())
	}
}

func TestBusyRelay(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int64
	pool := &fakePool{invoke: func(context.Context, actions.Request) (actions.Response, error) {
		running.Add(1)
		<-release
		return actions.Response{}, nil
	}}
	s := serve(t, Config{Pool: pool, Lanes: 2})
	r := relayTo(t, RelayConfig{Path: s.path, MaxWaiting: 1})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = r.Invoke(t.Context(), actions.Request{Model: "m"}) })
	eventually(t, "a call", func() bool { return running.Load() == 1 })
	wg.Go(func() { _, _ = r.Invoke(t.Context(), actions.Request{Model: "m"}) })
	eventually(t, "a call that waits", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.waiting == 1
	})
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	if e := wantCode(t, err, actions.Busy); e.RetryAfter == 0 {
		t.Error("the error does not say when to try again")
	}
	close(release)
	wg.Wait()
}

func TestCancelAndDeadlineCross(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan struct{}, 1)
	pool := &fakePool{invoke: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return actions.Response{}, &actions.Error{
			Code: actions.CodeOf(asError(ctx.Err())), Msg: "late", Logs: []actions.LogLine{{Stream: actions.Stdout, Text: "so far"}},
		}
	}}
	r := serve(t, Config{Pool: pool}).relay(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	_, err := r.Invoke(ctx, actions.Request{Model: "m"})
	wantCode(t, err, actions.Canceled)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("on the node the call ended with %v, want %v", err, context.Canceled)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Invoke(ctx, actions.Request{Model: "m"})
	e := wantCode(t, err, actions.Deadline)
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on the node the call ended with %v, want %v", err, context.DeadlineExceeded)
	}
	if len(e.Logs) != 1 && e.Msg == "late" {
		t.Errorf("got the lines %v, want what was printed", e.Logs)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = r.Invoke(ctx, actions.Request{Model: "m"})
	wantCode(t, err, actions.Canceled)
}

func TestQuestions(t *testing.T) {
	info := json.RawMessage(`{"a":1}`)
	pool := &fakePool{
		infos: map[string]json.RawMessage{"m": info},
		stats: []actions.PoolStats{{Model: "m", Idle: 1, From: map[actions.Tier]int64{actions.TierWarm: 3}}, {Model: "other"}},
	}
	r := serve(t, Config{Pool: pool}).relay(t)
	models, err := r.Models(t.Context())
	if err != nil || len(models) != 1 || models[0].Name != "echo" {
		t.Errorf("Models: got %v, %v", models, err)
	}
	m, err := r.Model(t.Context(), "m")
	if err != nil || m.Name != "m" || m.Env != nil {
		t.Errorf("Model: got %+v, %v; want m without what its program has in its environment", m, err)
	}
	_, err = r.Model(t.Context(), "none")
	wantCode(t, err, actions.NotFound)
	if got := r.Info("m"); string(got) != string(info) {
		t.Errorf("Info: got %s, want %s", got, info)
	}
	if got := r.Info("other"); got != nil {
		t.Errorf("Info of a model that was not loaded: got %s", got)
	}
	if err := r.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	r2 := relayTo(t, RelayConfig{Path: r.cfg.Path})
	if _, err := r2.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pool.stats[:1], r2.Stats()); diff != "" {
		t.Errorf("the stats of what the relay has used (-want +got):\n%s", diff)
	}
}

func TestInfoComesWithAnswers(t *testing.T) {
	pool := &fakePool{infos: map[string]json.RawMessage{}}
	r := serve(t, Config{Pool: pool}).relay(t)
	for _, info := range []string{"", `{"v":1}`, `{"v":2}`, ""} {
		pool.mu.Lock()
		if pool.infos["m"] = json.RawMessage(info); info == "" {
			pool.infos["m"] = nil
		}
		pool.mu.Unlock()
		if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		got := string(r.infos["m"])
		r.mu.Unlock()
		if got != info {
			t.Errorf("after the call the relay knows %q, want %q", got, info)
		}
	}
}

func TestImportedCode(t *testing.T) {
	s := serve(t, Config{})
	a, b := s.relay(t), s.relay(t)
	source := actions.Source{Name: "hello", Main: "main", Data: []byte("def main(args): return args"), Env: map[string]string{"K": "v"}}
	m, err := a.Import(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Invoke(t.Context(), actions.Request{Model: m.Name}); err != nil {
		t.Error(err)
	}
	_, err = b.Invoke(t.Context(), actions.Request{Model: m.Name})
	wantCode(t, err, actions.NotFound)
	_, err = b.Model(t.Context(), m.Name)
	wantCode(t, err, actions.NotFound)
	wantCode(t, b.Warm(t.Context(), m.Name, 1), actions.NotFound)
	other := source
	other.Env = map[string]string{"K": "w"}
	if m2, err := b.Import(t.Context(), other); err != nil || m2.Name == m.Name {
		t.Errorf("code with another environment: got %s, %v; want another name", m2.Name, err)
	}
	if m3, err := b.Import(t.Context(), source); err != nil || m3.Name != m.Name {
		t.Errorf("the same code: got %s, %v; want %s", m3.Name, err, m.Name)
	}
	_ = a.Close()
	eventually(t, "one relay", func() bool { return s.Relays() == 1 })
	if _, err := b.Invoke(t.Context(), actions.Request{Model: m.Name}); err != nil {
		t.Errorf("code that another relay holds too: %v", err)
	}
	_ = b.Close()
	eventually(t, "that the code is forgotten", func() bool {
		return slices.Contains(s.pool.heard(), "forget "+m.Name)
	})
	c := s.relay(t)
	_, err = c.Import(t.Context(), actions.Source{})
	wantCode(t, err, actions.Invalid)
}

func TestCodeIsKept(t *testing.T) {
	s := serve(t, Config{KeepCode: time.Hour})
	a := s.relay(t)
	source := actions.Source{Data: []byte("code")}
	m, err := a.Import(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	eventually(t, "no relay", func() bool { return s.Relays() == 0 })
	b := s.relay(t)
	if again, err := b.Import(t.Context(), source); err != nil || again.Name != m.Name {
		t.Errorf("got %s, %v", again.Name, err)
	}
	if slices.Contains(s.pool.heard(), "forget "+m.Name) {
		t.Error("the code was forgotten, and its instance with it")
	}
}

func TestWarmLastsWithTheLease(t *testing.T) {
	s := serve(t, Config{})
	a, b := s.relay(t), s.relay(t)
	eventually(t, "two relays", func() bool { return a.Ready() == nil && b.Ready() == nil })
	if err := a.Warm(t.Context(), "m", 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Warm(t.Context(), "m", 2); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	eventually(t, "fewer instances", func() bool { return s.pool.heard()[len(s.pool.heard())-1] == "keep m 1" })
	a.Cool("m")
	eventually(t, "no interest", func() bool { return slices.Contains(s.pool.heard(), "cool m") })
	a.Cool("m")
	want := []string{"keep m 1", "warm m", "keep m 2", "warm m", "keep m 1", "cool m"}
	if diff := cmp.Diff(want, s.pool.heard()); diff != "" {
		t.Errorf("what the pool was told (-want +got):\n%s", diff)
	}
}

func TestWarmFails(t *testing.T) {
	pool := &fakePool{warm: func(context.Context, string, int) error {
		return &actions.Error{Code: actions.Failed, Msg: "no weights", Err: actions.ErrDiedLoading}
	}}
	s := serve(t, Config{Pool: pool})
	err := s.relay(t).Warm(t.Context(), "m", 1)
	wantCode(t, err, actions.Failed, "no weights")
	if !errors.Is(err, actions.ErrDiedLoading) {
		t.Error("it is not said that the process died")
	}
}

func TestDrain(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	pool := &fakePool{invoke: func(_ context.Context, req actions.Request) (actions.Response, error) {
		if req.ID == "slow" {
			close(began)
			<-release
		}
		return actions.Response{Data: []byte("1")}, nil
	}}
	s := serve(t, Config{Pool: pool})
	r := relayTo(t, RelayConfig{Path: s.path, Patience: 50 * time.Millisecond})
	slow := make(chan error, 1)
	go func() {
		_, err := r.Invoke(t.Context(), actions.Request{Model: "m", ID: "slow"})
		slow <- err
	}()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	eventually(t, "that the relay knows", func() bool { return r.Ready() != nil })
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	if e := wantCode(t, err, actions.Unavailable, s.path); e.RetryAfter == 0 {
		t.Error("the error does not say when to try again")
	}
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there still: %v", err)
	}
	// Another node takes the place while the first still works.
	second := serveAt(t, s.path, Config{})
	if _, err := relayTo(t, RelayConfig{Path: s.path}).Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Error(err)
	}
	eventually(t, "the relay at the second node", func() bool { return second.Relays() == 2 })
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	began := make(chan struct{})
	pool := &fakePool{invoke: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		close(began)
		<-ctx.Done()
		return actions.Response{}, ctx.Err()
	}}
	s := serve(t, Config{Pool: pool, Grace: time.Millisecond})
	r := s.relay(t)
	slow := make(chan error, 1)
	go func() {
		_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
		slow <- err
	}()
	<-began
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	wantCode(t, <-slow, actions.Unavailable, "not sent again")
}
