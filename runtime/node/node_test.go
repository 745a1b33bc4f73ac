package node

import (
	"context"
	"errors"
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
