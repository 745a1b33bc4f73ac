package proxy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// Events that come while the first is answered wait for it, and later ones get what is
// recorded: the model is asked once.
func TestEventDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		inv := &fakeInvoker{answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
			<-release
			return actions.Response{ContentType: jsonType, Data: []byte(string(req.Args))}, nil
		}}
		s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids := map[string]int{}
		for i := range 20 {
			wg.Go(func() {
				// The content may be another: the event is the same.
				got := replyOf(t, s.handle(t.Context(), binaryEvent("1", jsonType, fmt.Sprintf(`{"n":%d}`, i))))
				mu.Lock()
				defer mu.Unlock()
				ids[got.ID+got.Time+string(got.Data)]++
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		time.Sleep(time.Minute)
		got := replyOf(t, s.handle(t.Context(), binaryEvent("1", jsonType, `{"n":99}`)))
		ids[got.ID+got.Time+string(got.Data)]++
		if len(ids) != 1 || inv.calls() != 1 {
			t.Errorf("got %d answers (%v) of %d calls, want one of one", len(ids), ids, inv.calls())
		}
		elsewhere := structured("1", ``)
		elsewhere.body = []byte(strings.Replace(string(elsewhere.body), `"/s"`, `"/other"`, 1))
		for _, other := range []*request{binaryEvent("2", jsonType, `{}`), elsewhere} {
			if another := replyOf(t, s.handle(t.Context(), other)); another.ID == got.ID {
				t.Errorf("another event has the answer of the first: %+v", another)
			}
		}
		if inv.calls() != 3 {
			t.Errorf("got %d calls for three events", inv.calls())
		}
	})
}

// A sender that leaves takes nothing from those that wait for the same event, the first neither;
// when all have left the model is told.
func TestEventDuplicatesLeave(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leave  []int // who leaves, of three
		status []int // what they get
		ended  bool  // the call ended before its time
	}{
		{"nobody", nil, []int{200, 200, 200}, false},
		{"the first", []int{0}, []int{200, 200, 200}, false}, // whose answer nobody reads
		{"a waiter", []int{1}, []int{200, 503, 200}, false},
		{"all waiters", []int{2, 1}, []int{200, 503, 503}, false},
		{"all", []int{0, 1, 2}, []int{503, 503, 503}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := false
				inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
					timer := time.NewTimer(time.Minute)
					defer timer.Stop()
					select {
					case <-timer.C:
						return actions.Response{ContentType: jsonType, Data: []byte(`{}`)}, nil
					case <-ctx.Done():
						ended = true
						return actions.Response{}, ctx.Err()
					}
				}}
				s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
				status := make([]int, 3)
				leave := make([]context.CancelFunc, 3)
				var wg sync.WaitGroup
				for i := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					leave[i] = cancel
					wg.Go(func() { status[i] = s.handle(ctx, binaryEvent("1", jsonType, `{}`)).status })
					synctest.Wait()
				}
				for _, i := range tt.leave {
					leave[i]()
				}
				wg.Wait()
				if fmt.Sprint(status) != fmt.Sprint(tt.status) || ended != tt.ended || inv.calls() != 1 {
					t.Errorf("got %v, ended %v, %d calls; want %v, %v, one", status, ended, inv.calls(), tt.status, tt.ended)
				}
				resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`))
				if want := map[bool]int{true: 2, false: 1}[tt.ended]; resp.status != 200 || inv.calls() != want {
					t.Errorf("again: got %d and %d calls, want 200 and %d", resp.status, inv.calls(), want)
				}
			})
		})
	}
}

// A panic of the model's call leaves nobody waiting.
func TestEventDuplicatesPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, n := make(chan struct{}), 0
		inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
			if n++; n > 2 {
				return actions.Response{ContentType: jsonType, Data: []byte(`{}`)}, nil
			}
			<-release
			panic("secret")
		}}
		s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
		batch := eventRequest("/", `[{"specversion":"1.0","id":"b","source":"/s","type":"t"}]`, "Content-Type", "application/cloudevents-batch+json")
		var wg sync.WaitGroup
		for _, r := range []*request{binaryEvent("1", jsonType, `{}`), binaryEvent("1", jsonType, `{}`), batch} {
			wg.Go(func() {
				if resp := s.handle(t.Context(), r); resp.status != 500 {
					t.Errorf("got %d %s", resp.status, resp.body)
				}
			})
			synctest.Wait()
		}
		close(release)
		wg.Wait()
		if resp := s.handle(t.Context(), binaryEvent("1", jsonType, `{}`)); resp.status != 200 {
			t.Errorf("again: got %d %s", resp.status, resp.body)
		}
	})
}

// The record is bounded in entries, bytes and age, and may be turned off.
func TestEventRecordBounds(t *testing.T) {
	const kib = 1 << 10
	for _, tt := range []struct {
		name  string
		cfg   Config
		size  int // of an answer
		wait  time.Duration
		calls int // of ten events, then the same ten from the last to the first
	}{
		{"all fit", Config{}, kib, 0, 10},
		{"entries", Config{EventRecord: 4}, kib, 0, 16},
		{"bytes", Config{EventRecordBytes: 4 * int64(recordCost+kib+2+len(jsonType))}, kib, 0, 16},
		{"one is over all bytes", Config{EventRecordBytes: kib}, kib, 0, 20},
		{"young", Config{EventRecordAge: time.Minute}, kib, time.Minute, 10},
		{"old", Config{EventRecordAge: time.Minute}, kib, time.Minute + time.Second, 20},
		{"off", Config{EventRecord: -1}, kib, 0, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
					return actions.Response{ContentType: jsonType, Data: fmt.Appendf(nil, `"%0*d"`, tt.size, 0)}, nil
				}}
				tt.cfg.Model, tt.cfg.Invoker = "echo", inv
				s, _ := newServer(t, tt.cfg)
				for i := range 10 {
					replyOf(t, s.handle(t.Context(), structured(fmt.Sprint(i), ``)))
				}
				time.Sleep(tt.wait)
				for i := range 10 {
					replyOf(t, s.handle(t.Context(), structured(fmt.Sprint(9-i), ``)))
				}
				if inv.calls() != tt.calls {
					t.Errorf("got %d calls, want %d", inv.calls(), tt.calls)
				}
				rec := s.record
				if rec == nil {
					return
				}
				n, size := 0, int64(0)
				for e := rec.oldest; e != nil; e = e.younger {
					n, size = n+1, size+e.size
				}
				if n != rec.count || n != len(rec.known) || size != rec.size || n > rec.entries || size > rec.bytes {
					t.Errorf("got %d entries of %d bytes in the list, and %d, %d, %d counted", n, size, rec.count, len(rec.known), rec.size)
				}
			})
		})
	}
}
