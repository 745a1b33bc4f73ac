package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestRun(t *testing.T) {
	tests := []struct {
		name   string
		body   string
		status int
		want   string
	}{
		{"arguments", `{"value":{"text":"hello"}}`, 200, `{"text":"hello"}`},
		{"unicode", `{"value":{"text":"❄ ☃ ❄"}}`, 200, `{"text":"❄ ☃ ❄"}`},
		{"numbers", `{"value":{"numbers":[42,1]}}`, 200, `{"numbers":[42,1]}`},
		{"object", `{"value":{"object":{"a":"A"}}}`, 200, `{"object":{"a":"A"}}`},
		{"no value", `{}`, 200, `{}`},
		{"value null", `{"value":null}`, 200, `{}`},
		{"more keys", `{"namespace":"zzz","value":{"n":1},"action_name":"xxx","api_key":"abc","deadline":"123"}`, 200, `{"n":1}`},
		{"platform's arguments", `{"value":{"n":1,"__ow_user":"guest","__ow_headers":{}}}`, 200, `{"n":1}`},
		{"spaces", " {\n\t\"value\" : { \"n\" : 1 } }\r\n", 200, `{"n":1}`},
		{"escaped key", `{"v\u0061lue":{"n":1}}`, 200, `{"n":1}`},
		{"value twice", `{"value":"A","value":{"n":1}}`, 200, `{"n":1}`},
		{"VALUE is another key", `{"VALUE":{"n":1}}`, 200, `{}`},
		{"value array", `{"value":["a","b"]}`, 200, `{"error":"echo takes named arguments: value must be an object, not an array"}` + "\n"},
		{"value string", `{"value":"A"}`, 404, `{"error":"The action did not receive a dictionary or array as an argument."}` + "\n"},
		{"value number", `{"value":1}`, 404, `{"error":"The action did not receive a dictionary or array as an argument."}` + "\n"},
		{"value boolean", `{"value":true}`, 404, `{"error":"The action did not receive a dictionary or array as an argument."}` + "\n"},
		{"not JSON", `XXX`, 200, `{"error":"Error unmarshaling request: invalid character 'X' looking for beginning of value"}` + "\n"},
		{"empty", ``, 200, `{"error":"Error unmarshaling request: unexpected end of JSON input"}` + "\n"},
		{"cut off", `{"value":{"n":1}`, 200, `{"error":"Error unmarshaling request: unexpected end of JSON input"}` + "\n"},
		{"bad inside", `{"value":{"n":01}}`, 200, `{"error":"Error unmarshaling request: invalid character '1' after object key:value pair"}` + "\n"},
		{"not UTF-8", "{\"value\":{\"text\":\"\xff\"}}", 200, `{"error":"Error unmarshaling request: the body is not UTF-8"}` + "\n"},
		{"too deep", `{"value":{"object":` + strings.Repeat(`[`, 2000) + strings.Repeat(`]`, 2000) + `}}`, 200, `{"error":"Error unmarshaling request: the body is nested deeper…`},
		{"top level null", `null`, 200, `{"error":"Error unmarshaling request: the body is not a JSON object"}` + "\n"},
		{"top level array", `[]`, 200, `{"error":"Error unmarshaling request: the body is not a JSON object"}` + "\n"},
		{"unknown argument", `{"value":{"txt":"a"}}`, 200, `{"error":"echo: \"txt\" is unknown…`},
		{"wrong type", `{"value":{"n":"a"}}`, 200, `{"error":"echo: n must be an integer…`},
		{"bad base64", `{"value":{"image":"%%%"}}`, 200, `{"error":"echo: image is not base64…`},
		{"accept refuses JSON", `{"value":{"n":1,"accept":"image/png"}}`, 200, `{"error":"echo answers application/json, which the request does not accept: \"image/png\""}` + "\n"},
		{"accept takes JSON", `{"value":{"n":1,"accept":"image/*, application/json;q=0.1"}}`, 200, `{"n":1}`},
		{"accept is nothing", `{"value":{"n":1,"accept":"json"}}`, 200, `{"error":"accept is not a media type: \"json\""}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, st := newServer(t, Config{Model: "echo"})
			wantResponse(t, post(t, s, "/run", tt.body), tt.status, tt.want)
			wantSentinels(t, st, 1)
			if tt.name != "top level null" && st.out.String() != sentinel+"\n" {
				t.Errorf("got stdout %q, want the sentinel alone", st.out.String())
			}
			if n := strings.Count(st.log.String(), "msg=invocation"); n != 1 {
				t.Errorf("got %d log lines, want 1", n)
			}
		})
	}
}

func TestRunMissingArgument(t *testing.T) {
	s, st := newServer(t, Config{Model: "strict", Catalog: strictCatalog{}})
	wantResponse(t, post(t, s, "/run", `{"value":{}}`), 200, `{"error":"strict: text is required"}`+"\n")
	wantSentinels(t, st, 1)
}

func TestRunAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer actions.Response
		want   string
	}{
		{"object", actions.Response{ContentType: jsonType, Data: []byte(` {"a": 1}`)}, ` {"a": 1}`},
		{"array", actions.Response{ContentType: jsonType, Data: []byte(`["a","b"]`)}, `["a","b"]`},
		{"the model's own error", actions.Response{ContentType: jsonType, Data: []byte(`{"error":"sorry"}`)}, `{"error":"sorry"}`},
		{"string", actions.Response{ContentType: jsonType, Data: []byte(`"not json"`)}, `{"result":"not json"}`},
		{"null", actions.Response{ContentType: jsonType, Data: []byte(`null`)}, `{"result":null}`},
		{"nothing", actions.Response{ContentType: jsonType}, `{"result":null}`},
		{"charset", actions.Response{ContentType: "application/json; charset=utf-8", Data: []byte(`{}`)}, `{}`},
		{"image", actions.Response{ContentType: "image/png", Filename: "a.png", Data: []byte("\x89PNG")}, `{"content_type":"image/png","filename":"a.png","data":"iVBORw=="}`},
		{"text", actions.Response{ContentType: "text/plain", Data: []byte("hi")}, `{"content_type":"text/plain","data":"aGk="}`},
		{"over the limit", actions.Response{ContentType: jsonType, Data: []byte(`{"a":"` + strings.Repeat("x", 100) + `"}`)}, `{"error":"the answer has 108 bytes, the limit is 90; ask for less, or have it stored elsewhere, with result_to, a URL, beside the arguments"}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
				return tt.answer, nil
			}}
			s, st := newServer(t, Config{Model: "echo", Invoker: inv, MaxPayload: 90})
			wantResponse(t, post(t, s, "/run", `{}`), 200, tt.want)
			wantSentinels(t, st, 1)
		})
	}
}

func TestRunErrors(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"failed", actions.Errorf(actions.Failed, "ValueError: no text"), 200, `{"error":"ValueError: no text"}`},
		{"busy", &actions.Error{Code: actions.Busy, Msg: "the queue is full", RetryAfter: time.Second}, 200, `{"error":"the queue is full"}`},
		{"worker died", actions.Errorf(actions.Unavailable, "the worker died"), 200, `{"error":"the worker died"}`},
		{"unsupported", actions.Errorf(actions.Unsupported, "no train"), 200, `{"error":"no train"}`},
		{"too large", actions.Errorf(actions.TooLarge, "over 1 MiB"), 200, `{"error":"over 1 MiB"}`},
		{"conflict", actions.Errorf(actions.Conflict, "no"), 200, `{"error":"no"}`},
		{"no message", &actions.Error{Code: actions.Failed}, 200, `{"error":"failed"}`},
		{"wrapped", fmt.Errorf("pool: %w", actions.Errorf(actions.Failed, "bad")), 200, `{"error":"bad"}`},
		{"internal hides its cause", errors.New("secret path"), 200, `{"error":"internal error; the log has its cause under request id id-1"}`},
		{"internal with message", actions.Errorf(actions.Internal, "secret"), 200, `{"error":"internal error; the log has its cause under request id id-1"}`},
		{"deadline", context.DeadlineExceeded, 200, `{"error":"the model did not answer before the deadline"}`},
		{"given up by the drain", context.Canceled, 503, `{"error":"the request was given up"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, st := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: failing(tt.err)}})
			wantResponse(t, post(t, s, "/run", `{}`), tt.status, tt.want+"\n")
			wantSentinels(t, st, 1)
			if strings.HasPrefix(tt.name, "internal") && !strings.Contains(st.log.String(), "secret") {
				t.Errorf("the log does not have the cause: %s", st.log.String())
			}
		})
	}
}

func TestRunUnknownModel(t *testing.T) {
	s, st := newServer(t, Config{Model: "nope"})
	wantResponse(t, post(t, s, "/run", `{}`), 200, `{"error":"there is no model \"nope\"; there are echo, other"}`+"\n")
	wantSentinels(t, st, 1)
}

func TestRunBeforeInit(t *testing.T) {
	for _, body := range []string{`{}`, `XXX`} {
		s, st := newServer(t, Config{})
		wantResponse(t, post(t, s, "/run", body), 500, `{"error":"no action defined yet"}`+"\n")
		wantSentinels(t, st, 1)
	}
}

func TestRunLogs(t *testing.T) {
	lines := []actions.LogLine{
		{Stream: actions.Stdout, Text: "hello stdout"},
		{Stream: actions.Stderr, Text: "hello stderr"},
		{Stream: actions.Stdout, Text: sentinel},
	}
	const out, err = "hello stdout\n(sentinel)\n" + sentinel + "\n", "hello stderr\n" + sentinel + "\n"
	for _, answer := range []func(context.Context, actions.Request) (actions.Response, error){
		func(context.Context, actions.Request) (actions.Response, error) {
			return actions.Response{ContentType: jsonType, Logs: lines}, nil
		},
		failing(&actions.Error{Code: actions.Failed, Logs: lines}),
		failing(&actions.Error{Code: actions.Internal, Logs: lines}),
	} {
		s, st := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{answer: answer}})
		post(t, s, "/run", `{}`)
		if st.out.String() != out || st.err.String() != err {
			t.Errorf("got stdout %q and stderr %q, want %q and %q", st.out.String(), st.err.String(), out, err)
		}
	}
}

// What a buffer holds back would become part of the next activation's logs.
func TestRunFlushes(t *testing.T) {
	var out, err bytes.Buffer
	s := New(Config{
		Model: "echo", Invoker: &fakeInvoker{}, Catalog: fakeCatalog{},
		Stdout: bufio.NewWriter(&out), Stderr: bufio.NewWriter(&err),
	})
	post(t, s, "/run", `{}`)
	if out.String() != sentinel+"\n" || err.String() != sentinel+"\n" {
		t.Errorf("got %q and %q when the answer was there", out.String(), err.String())
	}
}

func TestRunPanic(t *testing.T) {
	inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) { panic("at the disco") }}
	s, st := newServer(t, Config{Model: "echo", Invoker: inv})
	wantResponse(t, post(t, s, "/run", `{}`), 500, `{"error":"internal error; the log has its cause under request id id-1","code":"internal"}`+"\n")
	wantSentinels(t, st, 1)
	if log := st.log.String(); !strings.Contains(log, "at the disco") || !strings.Contains(log, "openwhisk_test.go") {
		t.Errorf("the log has no panic with a stack: %s", log)
	}
}

func TestRunRequest(t *testing.T) {
	inv := &fakeInvoker{}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv})
	post(t, s, "/run", `{"activation_id":"abc123","value":{"n":1,"image":"AAE=","accept":"application/json"}}`)
	want := actions.Request{
		Model: "echo", Verb: actions.Predict, ID: "abc123", Args: []byte(`{"n":1}`), Accept: "application/json",
		Files: []actions.File{{Name: "image", Data: []byte{0, 1}}},
	}
	if diff := cmp.Diff(want, inv.lastRequest()); diff != "" {
		t.Error(diff)
	}
	post(t, s, "/run", `{"activation_id":"a b\n"}`)
	if got := inv.lastRequest().ID; got != "id-1" {
		t.Errorf("got id %q, want the request's in place of a bad one", got)
	}
}

func TestRunDeadline(t *testing.T) {
	ms := func(d time.Duration) int64 { return time.Now().Add(d).UnixMilli() }
	tests := []struct {
		name     string
		deadline func() string
		after    time.Duration // when /run answers by itself, 0 for never
	}{
		{"string", func() string { return fmt.Sprintf(`"%d"`, ms(60*time.Second)) }, 60*time.Second - 100*time.Millisecond},
		{"number", func() string { return fmt.Sprint(ms(60 * time.Second)) }, 60*time.Second - 100*time.Millisecond},
		{"short", func() string { return fmt.Sprint(ms(100 * time.Millisecond)) }, 90 * time.Millisecond},
		{"long ago", func() string { return `"123"` }, 0},
		{"garbage", func() string { return `"soon"` }, 0},
		{"object", func() string { return `{}` }, 0},
		{"NaN", func() string { return `"NaN"` }, 0},
		{"endless", func() string { return `"1e300"` }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
					select {
					case <-ctx.Done():
						return actions.Response{}, ctx.Err()
					case <-time.After(time.Hour):
						return actions.Response{ContentType: jsonType, Data: []byte(`{"done":true}`)}, nil
					}
				}}
				s, st := newServer(t, Config{Model: "echo", Invoker: inv})
				start := time.Now()
				got := post(t, s, "/run", `{"deadline":`+tt.deadline()+`}`)
				want, after := `{"error":"the model did not answer before the deadline"}`+"\n", tt.after
				if after == 0 {
					want, after = `{"done":true}`, time.Hour
				}
				wantResponse(t, got, 200, want)
				wantSentinels(t, st, 1)
				if d := time.Since(start); d != after {
					t.Errorf("got the answer after %v, want %v", d, after)
				}
			})
		})
	}
}

func TestRunDeadlinePast(t *testing.T) {
	inv := &fakeInvoker{}
	s, st := newServer(t, Config{Model: "echo", Invoker: inv})
	past := time.Now().Add(-time.Minute).UnixMilli()
	got := post(t, s, "/run", fmt.Sprintf(`{"deadline":"%d"}`, past))
	wantResponse(t, got, 200, `{"error":"the model did not answer before the deadline"}`+"\n")
	wantSentinels(t, st, 1)
	if inv.calls() != 0 {
		t.Error("the model was called for an activation that is over")
	}
}

// Lines and sentinel of an activation follow each other on each stream, whatever else
// runs at the time.
func TestRunConcurrently(t *testing.T) {
	const runs, lines = 100, 5
	var all sync.WaitGroup
	all.Add(runs)
	inv := &fakeInvoker{answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
		all.Done()
		all.Wait() // every run is in flight before the first one ends
		resp := actions.Response{ContentType: jsonType, Data: append([]byte(nil), req.Args...)}
		for i := range lines {
			resp.Logs = append(resp.Logs,
				actions.LogLine{Stream: actions.Stdout, Text: fmt.Sprintf("%s out %d", req.ID, i)},
				actions.LogLine{Stream: actions.Stderr, Text: fmt.Sprintf("%s err %d", req.ID, i)})
		}
		return resp, nil
	}}
	s, st := newServer(t, Config{Model: "echo", Invoker: inv})
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			got := post(t, s, "/run", fmt.Sprintf(`{"activation_id":"a%d","value":{"n":%d}}`, i, i))
			wantResponse(t, got, http.StatusOK, fmt.Sprintf(`{"n":%d}`, i))
		})
	}
	wg.Wait()
	wantSentinels(t, st, runs)
	for stream, text := range map[string]string{"out": st.out.String(), "err": st.err.String()} {
		got := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(got) != runs*(lines+1) {
			t.Fatalf("got %d lines on %s, want %d", len(got), stream, runs*(lines+1))
		}
		for at := 0; at < len(got); at += lines + 1 {
			id, _, _ := strings.Cut(got[at], " ")
			for i := range lines {
				if want := fmt.Sprintf("%s %s %d", id, stream, i); got[at+i] != want {
					t.Fatalf("got line %q, want %q", got[at+i], want)
				}
			}
			if got[at+lines] != sentinel {
				t.Fatalf("got %q after the lines of %s, want the sentinel", got[at+lines], id)
			}
		}
	}
}
