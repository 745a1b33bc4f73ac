package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
)

// slowEcho is an invoker and a catalog of one model, which says where its time went.
type slowEcho struct {
	mu    sync.Mutex // guards trace
	trace actions.Trace
}

func (e *slowEcho) Invoke(_ context.Context, req actions.Request) (actions.Response, error) {
	e.mu.Lock()
	e.trace = req.Trace
	e.mu.Unlock()
	began := time.Now()
	queued := after(began)
	started := after(queued)
	ran := after(started)
	return actions.Response{ContentType: "application/json", Data: []byte(`{}`), Timing: actions.Timing{
		Queue: queued.Sub(began), Start: started.Sub(queued), Cold: true, From: actions.TierCache, Run: ran.Sub(started),
	}}, nil
}

// after looks at the clock until it has gone on by more than it can be read wrong.
func after(t time.Time) time.Time {
	for {
		if now := time.Now(); now.Sub(t) > 100*time.Microsecond {
			return now
		}
	}
}

func (e *slowEcho) Info(string) json.RawMessage { return nil }
func (e *slowEcho) Stats() []actions.PoolStats  { return nil }

func (e *slowEcho) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{{Name: "echo", Runtime: actions.ONNX}}, nil
}

func (e *slowEcho) Model(context.Context, string) (actions.Model, error) {
	return actions.Model{Name: "echo", Runtime: actions.ONNX}, nil
}

func (e *slowEcho) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, errors.New("not reached")
}

// serve serves the model with a tracer until the test ends.
func serve(t *testing.T, echo *slowEcho, tracer *Tracer) (url string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- proxy.New(proxy.Config{Invoker: echo, Catalog: echo, Model: "echo", Tracer: tracer}).Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// ask asks the model, with the header pairs.
func ask(t *testing.T, url string, pairs ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/run", strings.NewReader(`{"activation_id":"act-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		req.Header.Add(pairs[i], pairs[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != "{}" {
		t.Errorf("got %d %s, %v, want 200 {}", resp.StatusCode, body, err)
	}
}

// The way of one request, from its caller's span over the front's to what the model gets.
func TestFront(t *testing.T) {
	r := newReceiver(t)
	tracer, flush := open(t, nil)
	echo := &slowEcho{}
	ask(t, serve(t, echo, tracer), "traceparent", sampled, "tracestate", "a=1")
	flush()

	front, queue, start, run := r.got(t, "POST /run"), r.got(t, "queue"), r.got(t, "start"), r.got(t, "run")
	if got := hex.EncodeToString(front.GetParentSpanId()); got != parentID {
		t.Errorf("got parent %s of the front's span, want %s", got, parentID)
	}
	want := actions.Trace{Parent: "00-" + traceID + "-" + hex.EncodeToString(front.GetSpanId()) + "-01", State: "a=1"}
	if echo.trace != want {
		t.Errorf("the model got %+v, want %+v", echo.trace, want)
	}
	for _, step := range []*otlp.Span{queue, start, run} {
		if !bytes.Equal(step.GetParentSpanId(), front.GetSpanId()) || !bytes.Equal(step.GetTraceId(), front.GetTraceId()) {
			t.Errorf("%s is not below the front's span", step.GetName())
		}
	}
	times := []uint64{
		front.GetStartTimeUnixNano(), queue.GetStartTimeUnixNano(), queue.GetEndTimeUnixNano(), start.GetStartTimeUnixNano(),
		start.GetEndTimeUnixNano(), run.GetStartTimeUnixNano(), run.GetEndTimeUnixNano(), front.GetEndTimeUnixNano(),
	}
	if !slices.IsSorted(times) || times[2] != times[3] || times[4] != times[5] {
		t.Errorf("got times %d, want each step in the front's span and after the one before", times)
	}
	wantAttributes := map[string]string{
		"http.request.method": `"POST"`, "http.route": `"/run"`, "http.response.status_code": "200", "url.path": `"/run"`, "url.scheme": `"http"`,
		"deepfn.model": `"echo"`, "deepfn.activation_id": `"act-1"`,
	}
	if diff := cmp.Diff(wantAttributes, attributesOf(front)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"deepfn.from": `"cache"`, "deepfn.cold": "true"}, attributesOf(start)); diff != "" {
		t.Error(diff)
	}
}

// A lockedBuffer is a log that somebody may still write to.
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

// Requests are answered as ever when there is no collector, of which the log speaks once at
// most.
func TestNoCollector(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	t.Setenv(endpointName, gone.URL)
	log := &lockedBuffer{}
	tracer, _ := open(t, slog.New(slog.NewTextHandler(log, nil)))
	url := serve(t, &slowEcho{}, tracer)
	for range 20 {
		ask(t, url)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = tracer.Close(ctx) // with an error or without: the spans are lost
	if n := strings.Count(log.String(), "level=WARN"); n > 1 {
		t.Errorf("got %d warnings, want one at most:\n%s", n, log)
	}
}
