package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// answersIn answers {} with a Timing.
func answersIn(t actions.Timing) func(context.Context, actions.Request) (actions.Response, error) {
	return func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{ContentType: jsonType, Data: []byte(`{}`), Timing: t}, nil
	}
}

func TestServerTiming(t *testing.T) {
	for _, tt := range []struct {
		name   string
		timing actions.Timing
		want   string
	}{
		{"nothing", actions.Timing{}, ""},
		{"warm", actions.Timing{From: actions.TierWarm, Run: 1500 * time.Microsecond}, "run;dur=1.500"},
		{"whole milliseconds", actions.Timing{Run: 2 * time.Second}, "run;dur=2000"},
		{"under a microsecond", actions.Timing{Run: 999 * time.Nanosecond}, "run;dur=0"},
		{"microseconds", actions.Timing{Run: 7 * time.Microsecond}, "run;dur=0.007"},
		{
			"cold",
			actions.Timing{Queue: time.Millisecond, Start: 2 * time.Second, Cold: true, From: actions.TierDisk, Run: 3 * time.Millisecond},
			`queue;dur=1, start;dur=2000;desc="disk", run;dur=3`,
		},
		{"nobody knows from where", actions.Timing{Start: time.Second}, "start;dur=1000"},
		{"a clock that went back", actions.Timing{Queue: -time.Second, Run: time.Second}, "run;dur=1000"},
		{
			"the longest",
			actions.Timing{Queue: 1<<63 - 1, Start: 1<<63 - 1, From: actions.TierCache, Run: 1<<63 - 1},
			`queue;dur=9223372036854.775, start;dur=9223372036854.775;desc="cache", run;dur=9223372036854.775`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(appendServerTiming(nil, &tt.timing)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPlus(t *testing.T) {
	cold := actions.Timing{Queue: 1, Start: 2, Cold: true, From: actions.TierDisk, Run: 3}
	warm := actions.Timing{Queue: 10, From: actions.TierWarm, Run: 30}
	want := actions.Timing{Queue: 11, Start: 2, Cold: true, From: actions.TierDisk, Run: 33}
	for _, got := range []actions.Timing{plus(cold, warm), plus(warm, cold)} {
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if got := plus(actions.Timing{}, warm); got != warm {
		t.Errorf("got %+v, want %+v", got, warm)
	}
	for i, tier := range tiers() {
		if got := coldness(tier); got != i+1 {
			t.Errorf("%s: got %d, want %d", tier, got, i+1)
		}
	}
}

// What an invocation took is in the headers of every answer to one, and of no other, and
// the body is what it is without them.
func TestTimingHeaders(t *testing.T) {
	timing := actions.Timing{Queue: time.Millisecond, Start: 2 * time.Second, Cold: true, From: actions.TierCache, Run: 3 * time.Millisecond}
	const serverTiming = `queue;dur=1, start;dur=2000;desc="cache", run;dur=3`
	bad := actions.Errorf(actions.Failed, "it broke")
	for _, tt := range []struct {
		name, path, body string
		fail             bool
		start, timing    string
		status           int
		want             string
	}{
		{"run", "/run", `{}`, false, "cache", serverTiming, 200, `{}`},
		{"run that fails", "/run", `{}`, true, "cache", serverTiming, 200, `{"error":"it broke"}` + "\n"},
		{"run that is not called", "/run", `[`, false, "", "", 200, `{"error":"Error unmarshaling…`},
		{"predict", predictPath, `{}`, false, "cache", serverTiming, 200, `{"status": "OK", "predictions": {}}`},
		{"predict that fails", predictPath, `{}`, true, "cache", serverTiming, 500, `{"error":"it broke","code":"failed"}` + "\n"},
		{"entrypoint", "/", `{"value":{}}`, false, "cache", serverTiming, 200, `{}`},
		{"web action", "/run", `{"value":{"__ow_method":"post","__ow_path":""}}`, false, "cache", serverTiming, 200, `{"statusCode":200,"headers":{"content-type":"application/json"},"body":{"status": "OK", "predictions": {}}}`},
		{"no route", "/nowhere", `{}`, false, "", "", 404, `{"error":"there is nothing at /nowhere…`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
				if tt.fail {
					return actions.Response{Timing: timing}, bad
				}
				return actions.Response{ContentType: jsonType, Data: []byte(`{}`), Timing: timing}, nil
			}}
			srv := start(t, Config{Model: "echo", Invoker: inv})
			c := srv.dial(t)
			_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", tt.path, len(tt.body), tt.body)
			got, body := read(t, bufio.NewReader(c), "POST")
			if got.Header.Get("Deepfn-Start") != tt.start || got.Header.Get("Server-Timing") != tt.timing {
				t.Errorf("got %q and %q, want %q and %q", got.Header.Get("Deepfn-Start"), got.Header.Get("Server-Timing"), tt.start, tt.timing)
			}
			if start, cut := strings.CutSuffix(tt.want, "…"); got.StatusCode != tt.status || body != tt.want && (!cut || !strings.HasPrefix(body, start)) {
				t.Errorf("got %d %s, want %d %s", got.StatusCode, body, tt.status, tt.want)
			}
		})
	}
}

// The model page asks a model that is loaded for its metadata, which may start it again.
func TestTimingOfMetadata(t *testing.T) {
	timing := actions.Timing{Start: time.Second, Cold: true, From: actions.TierDisk}
	inv := &fakeInvoker{info: json.RawMessage(`{"predict":{"parameters":[]}}`), answer: answersIn(timing)}
	s, _ := newServer(t, Config{Catalog: module(), Invoker: inv})
	if got := get(t, s, "/v2/models/mod/"); got.timing != timing {
		t.Errorf("got %+v, want %+v", got.timing, timing)
	}
}

func TestInitTiming(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stats actions.PoolStats
		err   error
		want  actions.Timing
	}{
		{"cold", actions.PoolStats{Model: "other", Idle: 1}, nil, actions.Timing{Start: time.Second, Cold: true, From: actions.TierDisk}},
		{"suspended", actions.PoolStats{Model: "echo", Suspended: 1}, nil, actions.Timing{Start: time.Second, From: actions.TierHost}},
		{"warm", actions.PoolStats{Model: "echo", InUse: 1}, nil, actions.Timing{Start: time.Second, From: actions.TierWarm}},
		{
			"failed",
			actions.PoolStats{},
			actions.Errorf(actions.Failed, "it broke"),
			actions.Timing{Start: time.Second, Cold: true, From: actions.TierDisk},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newServer(t, Config{
					Model: "echo", Invoker: &fakeInvoker{stats: []actions.PoolStats{tt.stats}},
					Warm: func(context.Context, string) error {
						time.Sleep(time.Second)
						return tt.err
					},
				})
				if got := post(t, s, "/init", `{}`); got.timing != tt.want {
					t.Errorf("got %+v, want %+v", got.timing, tt.want)
				}
				if got := post(t, s, "/init", `{}`); tt.err == nil && got.timing != (actions.Timing{}) {
					t.Errorf("a second /init: got %+v, want no time", got.timing)
				}
			})
		})
	}
}

// runningController runs each activation twice in the model echo, as a sequence would, and
// answers with the result of the second one.
type runningController struct {
	fakeController
	run func(context.Context, actions.Activation) (actions.Response, error)
}

func (r *runningController) Invoke(ctx context.Context, _ string, _ whisk.Name, in whisk.Invocation) (whisk.Outcome, error) {
	var resp actions.Response
	for range 2 {
		var err error
		if resp, err = r.run(context.WithoutCancel(ctx), actions.Activation{Model: "echo", ID: "act-1", Value: in.Args}); err != nil {
			return whisk.Outcome{}, err
		}
	}
	return whisk.Outcome{Done: true, Activation: whisk.Activation{ID: "act-1", Response: whisk.Response{Result: resp.Data}}}, nil
}

func (r *runningController) Web(context.Context, whisk.Name) (whisk.Action, error) {
	return whisk.Action{}, nil
}

// withController makes a server whose API runs its activations in the server itself.
func withController(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	controller := &runningController{}
	cfg.Controller = controller
	s, _ := newServer(tb, cfg)
	controller.run = s.Activate
	return s
}

func TestTimingOfTheAPI(t *testing.T) {
	timings := []actions.Timing{
		{Start: time.Second, Cold: true, From: actions.TierDisk, Run: time.Millisecond},
		{Queue: time.Millisecond, From: actions.TierWarm, Run: time.Millisecond},
	}
	want := actions.Timing{Queue: time.Millisecond, Start: time.Second, Cold: true, From: actions.TierDisk, Run: 2 * time.Millisecond}
	for path, query := range map[string]string{
		"/api/v1/web/guest/default/echo.json": "", "/api/v1/namespaces/_/actions/echo": "blocking=true",
	} {
		n := 0
		s := withController(t, Config{Invoker: &fakeInvoker{answer: func(ctx context.Context, req actions.Request) (actions.Response, error) {
			n++
			return answersIn(timings[n-1])(ctx, req)
		}}})
		got := s.handle(t.Context(), &request{
			method: http.MethodPost, path: path, sent: path, query: query, id: "id-1", contentType: jsonType, body: []byte(`{}`),
			header: func(name string, each func(name, value string)) {
				if name == "Authorization" {
					each(name, "Basic dTpwOnA=") // u:p:p
				}
			},
		})
		if got.status >= 300 || got.timing != want {
			t.Errorf("%s: got %d %s %+v, want %+v", path, got.status, got.body, got.timing, want)
		}
	}
}

// BenchmarkTiming is what a request's header and its answer's two cost beside all else.
func BenchmarkTiming(b *testing.B) {
	var fc fasthttp.RequestCtx
	fc.Request.Header.Set("Content-Type", jsonType)
	fc.Request.Header.Set("User-Agent", "bench")
	c := call{known: true, protocol: openwhisk, response: actions.Response{Timing: actions.Timing{From: actions.TierWarm, Queue: 12345, Run: 1234567}}}
	b.ReportAllocs()
	for b.Loop() {
		r := request{peek: &fc.Request.Header, header: headersOf()}
		r.trace = r.traceContext()
		r.note(&c, nil)
		fc.Response.Header.Reset()
		sendTiming(&fc.Response.Header, &r.account.timing)
	}
}
