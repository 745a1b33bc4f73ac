package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

const (
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID = "00f067aa0ba902b7"
	sampled  = "00-" + traceID + "-" + parentID + "-01"
)

// headersOf makes the header of a request, of pairs.
func headersOf(pairs ...string) func(name string, each func(name, value string)) {
	return func(name string, each func(name, value string)) {
		for i := 0; i < len(pairs); i += 2 {
			if name == "" || strings.EqualFold(name, pairs[i]) {
				each(pairs[i], pairs[i+1])
			}
		}
	}
}

func TestTraceContext(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	many := func(n int) string {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf("k%d=v", i))
		}
		return strings.Join(members, ",")
	}
	for _, tt := range []struct {
		name   string
		header []string
		want   actions.Trace
	}{
		{"none", nil, actions.Trace{}},
		{"a parent", []string{"traceparent", sampled}, actions.Trace{Parent: sampled}},
		{"any case of the name, spaces", []string{"TraceParent", " " + sampled + "\t"}, actions.Trace{Parent: sampled}},
		{"not sampled", []string{"traceparent", sampled[:53] + "00"}, actions.Trace{Parent: sampled[:53] + "00"}},
		{"a later version", []string{"traceparent", "cc" + sampled[2:]}, actions.Trace{Parent: sampled}},
		{"a later version with more", []string{"traceparent", "cc" + sampled[2:] + "-what"}, actions.Trace{Parent: sampled}},
		{"a later version with nonsense", []string{"traceparent", "cc" + sampled[2:] + "what"}, actions.Trace{}},
		{"version 00 with more", []string{"traceparent", sampled + "-what"}, actions.Trace{}},
		{"version ff", []string{"traceparent", "ff" + sampled[2:]}, actions.Trace{}},
		{"twice", []string{"traceparent", sampled, "traceparent", sampled}, actions.Trace{}},
		{"no trace id", []string{"traceparent", "00-00000000000000000000000000000000-" + parentID + "-01"}, actions.Trace{}},
		{"no parent id", []string{"traceparent", "00-" + traceID + "-0000000000000000-01"}, actions.Trace{}},
		{"upper case", []string{"traceparent", strings.ToUpper(sampled)}, actions.Trace{}},
		{"not hexadecimal", []string{"traceparent", strings.Replace(sampled, "4bf", "xyz", 1)}, actions.Trace{}},
		{"other separators", []string{"traceparent", strings.ReplaceAll(sampled, "-", "_")}, actions.Trace{}},
		{"too short", []string{"traceparent", sampled[:54]}, actions.Trace{}},
		{"empty", []string{"traceparent", ""}, actions.Trace{}},
		{"a state alone", []string{"tracestate", "a=1"}, actions.Trace{}},
		{"a state with a bad parent", []string{"traceparent", "x", "tracestate", "a=1"}, actions.Trace{}},
		{"a state", []string{"traceparent", sampled, "tracestate", "congo=t61,rojo=00f"}, actions.Trace{Parent: sampled, State: "congo=t61,rojo=00f"}},
		{"a state in two", []string{"traceparent", sampled, "tracestate", "a=1, ,", "tracestate", " b=2 "}, actions.Trace{Parent: sampled, State: "a=1,b=2"}},
		{"a tenant", []string{"traceparent", sampled, "tracestate", "0t/*_-@sys=a b"}, actions.Trace{Parent: sampled, State: "0t/*_-@sys=a b"}},
		{"a state twice", []string{"traceparent", sampled, "tracestate", "a=1,a=2"}, actions.Trace{Parent: sampled}},
		{"no value", []string{"traceparent", sampled, "tracestate", "a="}, actions.Trace{Parent: sampled}},
		{"no key", []string{"traceparent", sampled, "tracestate", "=1"}, actions.Trace{Parent: sampled}},
		{"no member", []string{"traceparent", sampled, "tracestate", "a"}, actions.Trace{Parent: sampled}},
		{"a key in upper case", []string{"traceparent", sampled, "tracestate", "A=1"}, actions.Trace{Parent: sampled}},
		{"a key that begins with a digit", []string{"traceparent", sampled, "tracestate", "0a=1"}, actions.Trace{Parent: sampled}},
		{"a bad system", []string{"traceparent", sampled, "tracestate", "a@0b=1"}, actions.Trace{Parent: sampled}},
		{"a long system", []string{"traceparent", sampled, "tracestate", "a@" + long(15) + "=1"}, actions.Trace{Parent: sampled}},
		{"a long key", []string{"traceparent", sampled, "tracestate", long(257) + "=1"}, actions.Trace{Parent: sampled}},
		{"a long value", []string{"traceparent", sampled, "tracestate", "a=" + long(257)}, actions.Trace{Parent: sampled}},
		{"another equals sign", []string{"traceparent", sampled, "tracestate", "a=b=c"}, actions.Trace{Parent: sampled}},
		{"a control character", []string{"traceparent", sampled, "tracestate", "a=\x01"}, actions.Trace{Parent: sampled}},
		{"32 members", []string{"traceparent", sampled, "tracestate", many(32)}, actions.Trace{Parent: sampled, State: many(32)}},
		{"33 members", []string{"traceparent", sampled, "tracestate", many(33)}, actions.Trace{Parent: sampled}},
		{
			"long members first",
			[]string{"traceparent", sampled, "tracestate", "a=" + long(200) + ",b=" + long(100) + ",c=" + long(100) + ",d=" + long(200) + ",e=" + long(100)},
			actions.Trace{Parent: sampled, State: "a=" + long(200) + ",b=" + long(100) + ",c=" + long(100) + ",e=" + long(100)},
		},
		{
			"then the last ones",
			[]string{"traceparent", sampled, "tracestate", "a=" + long(120) + ",b=" + long(120) + ",c=" + long(120) + ",d=" + long(120) + ",e=" + long(120)},
			actions.Trace{Parent: sampled, State: "a=" + long(120) + ",b=" + long(120) + ",c=" + long(120) + ",d=" + long(120)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request{header: headersOf(tt.header...)}
			if got := r.traceContext(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	var r request
	if got := r.traceContext(); got != (actions.Trace{}) {
		t.Errorf("without a header: got %+v", got)
	}
}

// Whatever a caller sends, what is handed on is right by the same rules, and short.
func FuzzTraceContext(f *testing.F) {
	f.Add(sampled, "a=1,b@c=2")
	f.Add("cc"+sampled[2:]+"-x", strings.Repeat("a", 300)+"=1")
	f.Fuzz(func(t *testing.T, parent, state string) {
		r := request{header: headersOf("traceparent", parent, "tracestate", state)}
		first := r.traceContext()
		if len(first.State) > maxState || first.Parent != "" && len(first.Parent) != traceLength || first.Parent == "" && first.State != "" {
			t.Fatalf("got %+v", first)
		}
		r.header = headersOf("traceparent", first.Parent, "tracestate", first.State)
		if again := r.traceContext(); again != first {
			t.Errorf("got %+v of %+v", again, first)
		}
	})
}

// A recordedSpan is what a recorder was told.
type recordedSpan struct {
	Name, Own, Parent string
	Entry             bool
	Start, End        time.Duration // since the recorder was made
	Failure           string
	Attributes        map[string]any
}

// A recorder is a Tracer that keeps what it is told. Own contexts are "span 1" and so on.
type recorder struct {
	made time.Time

	mu    sync.Mutex // guards what follows
	begun int
	spans []recordedSpan
}

func (r *recorder) Begin(name string, entry bool, parent actions.Trace, start time.Time) (actions.Trace, func(time.Time, string, map[string]any)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
	own := actions.Trace{Parent: fmt.Sprintf("span %d", r.begun), State: parent.State}
	return own, func(at time.Time, failure string, attributes map[string]any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.spans = append(r.spans, recordedSpan{name, own.Parent, parent.Parent, entry, start.Sub(r.made), at.Sub(r.made), failure, maps.Clone(attributes)})
	}
}

func (r *recorder) ended() []recordedSpan {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// traceOne answers one request in fake time and returns the spans.
func traceOne(t *testing.T, s *Server, rec *recorder, r *request) ([]recordedSpan, response) {
	t.Helper()
	rec.made = time.Now()
	r.id, r.contentType = "id-1", jsonType
	resp := s.handle(t.Context(), r)
	return rec.ended(), resp
}

// sleeping answers after its Timing.
func sleeping(timing actions.Timing, err error) func(context.Context, actions.Request) (actions.Response, error) {
	return func(ctx context.Context, req actions.Request) (actions.Response, error) {
		time.Sleep(timing.Queue + timing.Start + timing.Run)
		resp, _ := answersIn(timing)(ctx, req)
		return resp, err
	}
}

func TestSpans(t *testing.T) {
	cold := actions.Timing{Queue: time.Second, Start: 2 * time.Second, Cold: true, From: actions.TierDisk, Run: 3 * time.Second}
	warm := actions.Timing{From: actions.TierWarm, Run: time.Second}
	steps := []recordedSpan{
		{Name: "queue", Own: "span 2", Parent: "span 1", Start: 0, End: time.Second},
		{Name: "start", Own: "span 3", Parent: "span 1", Start: time.Second, End: 3 * time.Second, Attributes: map[string]any{"deepfn.from": "disk", "deepfn.cold": true}},
		{Name: "run", Own: "span 4", Parent: "span 1", Start: 3 * time.Second, End: 6 * time.Second},
	}
	attributes := func(method, route, path string, status int, more ...any) map[string]any {
		a := map[string]any{"http.request.method": method, "http.response.status_code": status, "url.scheme": "http", "url.path": path}
		if route != "" {
			a["http.route"] = route
		}
		for i := 0; i < len(more); i += 2 {
			a[fmt.Sprint(more[i])] = more[i+1]
		}
		return a
	}
	for _, tt := range []struct {
		name    string
		request request
		timing  actions.Timing
		err     error
		want    []recordedSpan // the entry span, the last one, without its times
	}{
		{
			"run",
			request{method: "POST", path: "/run", body: []byte(`{"activation_id":"act-1"}`), header: headersOf("traceparent", sampled, "tracestate", "a=1")},
			cold, nil,
			append(slices.Clone(steps), recordedSpan{
				Name: "POST /run", Own: "span 1", Parent: sampled, Entry: true, End: 6 * time.Second,
				Attributes: attributes("POST", "/run", "/run", 200, "deepfn.model", "echo", "deepfn.activation_id", "act-1"),
			}),
		},
		{
			"predict",
			request{method: "POST", path: predictPath, body: []byte(`{}`)},
			warm, nil,
			[]recordedSpan{
				{Name: "run", Own: "span 2", Parent: "span 1", End: time.Second},
				{
					Name: "POST /v2/models/{model}/predict/", Own: "span 1", Entry: true, End: time.Second,
					Attributes: attributes("POST", "/v2/models/{model}/predict/", predictPath, 200, "deepfn.model", "echo"),
				},
			},
		},
		{
			"a model that fails",
			request{method: "POST", path: "/run", body: []byte(`{}`)},
			warm, actions.Errorf(actions.Failed, "it broke"),
			[]recordedSpan{
				{Name: "run", Own: "span 2", Parent: "span 1", End: time.Second},
				{
					Name: "POST /run", Own: "span 1", Entry: true, End: time.Second, Failure: "failed",
					Attributes: attributes("POST", "/run", "/run", 200, "deepfn.model", "echo", "deepfn.activation_id", "id-1", "error.type", "failed"),
				},
			},
		},
		{
			"a caller at fault",
			request{method: "POST", path: "/v2/models/made-up/predict/", body: []byte(`{}`)},
			warm, nil,
			[]recordedSpan{{
				Name: "POST /v2/models/{model}/predict/", Own: "span 1", Entry: true,
				Attributes: attributes("POST", "/v2/models/{model}/predict/", "/v2/models/made-up/predict/", 404, "error.type", "not_found"),
			}},
		},
		{
			"a web action",
			request{method: "POST", path: "/run", body: []byte(`{"value":{"__ow_method":"post"}}`)},
			warm, nil,
			[]recordedSpan{
				{Name: "run", Own: "span 2", Parent: "span 1", End: time.Second},
				{
					Name: "POST /run", Own: "span 1", Entry: true, End: time.Second,
					Attributes: attributes("POST", "/run", "/run", 200, "deepfn.model", "echo", "deepfn.activation_id", "id-1"),
				},
			},
		},
		{
			"the single entrypoint",
			request{method: "POST", path: "/", body: []byte(`{"value":{}}`)},
			warm, nil,
			[]recordedSpan{
				{Name: "run", Own: "span 2", Parent: "span 1", End: time.Second},
				{
					Name: "POST /", Own: "span 1", Entry: true, End: time.Second,
					Attributes: attributes("POST", "/", "/", 200, "deepfn.model", "echo", "deepfn.activation_id", "id-1"),
				},
			},
		},
		{
			"no route, no method",
			request{method: "BREW", path: "/nowhere"},
			warm, nil,
			[]recordedSpan{{Name: "HTTP", Own: "span 1", Entry: true, Attributes: attributes("_OTHER", "", "/nowhere", 404)}},
		},
		{"a probe", request{method: "GET", path: "/healthz"}, warm, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec, inv := &recorder{}, &fakeInvoker{answer: sleeping(tt.timing, tt.err)}
				s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Tracer: rec})
				got, _ := traceOne(t, s, rec, &tt.request)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if inv.calls() > 0 && inv.lastRequest().Trace.Parent != "span 1" {
					t.Errorf("the model got %+v, want the request's own span", inv.lastRequest().Trace)
				}
			})
		})
	}
}

// A panic ends the span, too.
func TestSpanOfPanic(t *testing.T) {
	rec := &recorder{}
	inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) { panic("broken") }}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Tracer: rec})
	got, resp := traceOne(t, s, rec, &request{method: "POST", path: "/run", body: []byte(`{}`)})
	if len(got) != 1 || got[0].Failure != "Internal Server Error" || resp.status != 500 {
		t.Errorf("got %+v and %d, want one span that failed", got, resp.status)
	}
}

// What /init waits for is a start.
func TestSpansOfInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		s, _ := newServer(t, Config{Model: "echo", Tracer: rec, Warm: func(context.Context, string) error {
			time.Sleep(time.Second)
			return nil
		}})
		got, _ := traceOne(t, s, rec, &request{method: "POST", path: "/init", body: []byte(`{}`)})
		want := recordedSpan{
			Name: "start", Own: "span 2", Parent: "span 1", End: time.Second,
			Attributes: map[string]any{"deepfn.from": "disk", "deepfn.cold": true},
		}
		if len(got) != 2 || cmp.Diff(want, got[0]) != "" || got[1].Name != "POST /init" || got[1].Attributes["deepfn.model"] != "echo" {
			t.Errorf("got %+v, want %+v and the request's", got, want)
		}
	})
}

// Each activation of OpenWhisk's API is a span of its own below the request's.
func TestSpansOfTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		inv := &fakeInvoker{answer: sleeping(actions.Timing{From: actions.TierWarm, Run: time.Second}, nil)}
		s := withController(t, Config{Invoker: inv, Tracer: rec})
		const path = "/api/v1/namespaces/_/actions/echo"
		got, _ := traceOne(t, s, rec, &request{
			method: http.MethodPost, path: path, query: "blocking=true", body: []byte(`{}`),
			header: headersOf("Authorization", "Basic dTpwOnA=", "traceparent", sampled),
		})
		var tree []string
		for _, span := range got {
			tree = append(tree, fmt.Sprint(span.Name, " ", span.Own, " below ", span.Parent))
		}
		want := []string{
			"run span 3 below span 2", "activation span 2 below span 1",
			"run span 5 below span 4", "activation span 4 below span 1", "POST /api/v1/* span 1 below " + sampled,
		}
		if diff := cmp.Diff(want, tree); diff != "" {
			t.Error(diff)
		}
		if id := got[1].Attributes["deepfn.activation_id"]; id != "act-1" {
			t.Errorf("got activation %v, want act-1", id)
		}
		if got := inv.lastRequest().Trace.Parent; got != "span 4" {
			t.Errorf("the model got %s, want span 4", got)
		}
	})
}

// Without a tracer a trace context goes through, on every way to a model.
func TestTracePassesThrough(t *testing.T) {
	header := headersOf("Authorization", "Basic dTpwOnA=", "traceparent", sampled, "tracestate", "a=1")
	want := actions.Trace{Parent: sampled, State: "a=1"}
	inside := fmt.Sprintf(`{"value":{"__ow_method":"post","__ow_headers":{"traceparent":%q,"tracestate":"a=1"}}}`, sampled)
	for _, tt := range []struct {
		name, path, body string
		header           func(string, func(name, value string))
		want             actions.Trace
	}{
		{"run", "/run", `{}`, header, want},
		{"predict", predictPath, `{}`, header, want},
		{"the single entrypoint", "/", `{"value":{}}`, header, want},
		{"a web action", "/run", `{"value":{"__ow_method":"post"}}`, header, want},
		{"a web action's own", "/run", inside, nil, want},
		{"OpenWhisk's API", "/api/v1/namespaces/_/actions/echo", `{}`, header, want},
		{"a web action of that", "/api/v1/web/guest/default/echo.json", `{}`, header, want},
		{"none", "/run", `{}`, headersOf(), actions.Trace{}},
		{"a bad one", "/run", `{}`, headersOf("traceparent", "bad", "tracestate", "a=1"), actions.Trace{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{}
			s := withController(t, Config{Model: "echo", Invoker: inv})
			resp := s.handle(t.Context(), &request{
				method: http.MethodPost, path: tt.path, sent: tt.path, id: "id-1", contentType: jsonType, body: []byte(tt.body), header: tt.header,
			})
			if got := inv.lastRequest().Trace; got != tt.want {
				t.Errorf("got %+v, want %+v; the answer is %d %s", got, tt.want, resp.status, resp.body)
			}
		})
	}
	inv := &fakeInvoker{info: json.RawMessage(`{"predict":{"parameters":[]}}`)}
	s, _ := newServer(t, Config{Catalog: module(), Invoker: inv})
	s.handle(t.Context(), &request{method: http.MethodGet, path: "/v2/models/mod/", id: "id-1", header: header})
	if got := inv.lastRequest().Trace; got != want {
		t.Errorf("a question for metadata: got %+v, want %+v", got, want)
	}
}
