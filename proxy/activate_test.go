package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestActivate(t *testing.T) {
	for _, tt := range []struct {
		name, value, want string
		code              actions.Code
	}{
		{name: "arguments", value: ` {"n":1} `, want: `{"n":1}`},
		{name: "nothing", want: `{}`},
		{name: "null", value: `null`, want: `{}`},
		{name: "array", value: `[1]`, want: "echo takes named arguments: value must be an object, not an array", code: actions.Invalid},
		{name: "text", value: `"A"`, want: notArguments, code: actions.Invalid},
		{name: "not JSON", value: `{"n":`, want: "Error unmarshaling request: unexpected end of JSON input", code: actions.Invalid},
		{name: "two values", value: `{} {}`, want: "Error unmarshaling request: invalid character '{' after top-level value", code: actions.Invalid},
		{name: "not UTF-8", value: "{\"text\":\"\xff\"}", want: "Error unmarshaling request: the body is not UTF-8", code: actions.Invalid},
		{name: "wrong type", value: `{"n":"a"}`, want: "echo: n must be an integer…", code: actions.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, st := newServer(t, Config{})
			resp, err := s.Activate(t.Context(), actions.Activation{Model: "echo", Value: []byte(tt.value)})
			got := string(resp.Data)
			if err != nil {
				got = err.Error()
			}
			if start, ok := strings.CutSuffix(tt.want, "…"); ok && strings.HasPrefix(got, start) {
				got = tt.want
			}
			if got != tt.want || actions.CodeOf(err) != tt.code {
				t.Errorf("got %q and code %q, want %q and %q", got, actions.CodeOf(err), tt.want, tt.code)
			}
			if st.out.String()+st.err.String() != "" {
				t.Errorf("got %q and %q on the streams, want nothing", st.out.String(), st.err.String())
			}
			if n := strings.Count(st.log.String(), "msg=invocation"); n != 1 {
				t.Errorf("got %d log lines, want 1", n)
			}
		})
	}
}

// An activation gets what the platform says of it, and the response what was printed.
func TestActivateRequest(t *testing.T) {
	lines := []actions.LogLine{{Stream: actions.Stdout, Text: "hello"}}
	inv := &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
		return actions.Response{ContentType: jsonType, Data: []byte(`5`), Logs: lines, Timing: actions.Timing{Run: time.Second}}, nil
	}}
	s, _ := newServer(t, Config{Invoker: inv, Catalog: module()})
	about := []actions.Text{{Origin: actions.FromContext, Name: "__OW_NAMESPACE", Value: "guest"}}
	in := actions.Activation{Model: "mod", ID: "abc", Value: []byte(`{"a":1}`), Context: about}
	resp, err := s.Activate(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := actions.Response{ContentType: jsonType, Data: []byte(`{"result":5}`), Logs: lines, Timing: actions.Timing{Run: time.Second}}
	if diff := cmp.Diff(want, resp); diff != "" {
		t.Error(diff)
	}
	id := actions.Text{Origin: actions.FromContext, Name: activationID, Value: "abc"}
	wantRequest := actions.Request{
		Model: "mod", Verb: actions.Predict, ID: "abc", Args: []byte(`{"a":1}`), Texts: append([]actions.Text{id}, about...),
	}
	if diff := cmp.Diff(wantRequest, inv.lastRequest()); diff != "" {
		t.Error(diff)
	}
	in.Context = []actions.Text{id}
	if _, err := s.Activate(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]actions.Text{id}, inv.lastRequest().Texts); diff != "" {
		t.Errorf("the id is there twice: %s", diff)
	}
}

// What an activation says of its call is said to the invoker, also by way of the routes that
// answer a web action; and how long a call took is told of one that failed, too.
func TestActivateTerms(t *testing.T) {
	for name, value := range map[string]string{"plain": `{"n":1}`, "web action": `{"__ow_method":"post","n":1}`} {
		t.Run(name, func(t *testing.T) {
			timing := actions.Timing{Queue: time.Minute, Run: time.Second}
			inv := &fakeInvoker{answer: func(ctx context.Context, req actions.Request) (actions.Response, error) {
				if req.Limit != time.Second || req.Begin == nil {
					t.Fatalf("the limit is %v", req.Limit)
				}
				return actions.Response{Timing: timing}, req.Begin(ctx)
			}}
			s, _ := newServer(t, Config{Invoker: inv})
			begun := 0
			resp, err := s.Activate(t.Context(), actions.Activation{
				Model: "echo", Value: []byte(value), Limit: time.Second, Begin: func(context.Context) error {
					begun++
					return actions.Errorf(actions.Busy, "not now")
				},
			})
			if begun != 1 || resp.Timing != timing || name == "plain" && actions.CodeOf(err) != actions.Busy {
				t.Errorf("it has begun %d times: %+v, %v", begun, resp, err)
			}
		})
	}
}

func TestActivateErrors(t *testing.T) {
	lines := []actions.LogLine{{Stream: actions.Stderr, Text: "Traceback"}}
	for _, tt := range []struct {
		name, model string
		answer      func(context.Context, actions.Request) (actions.Response, error)
		code        actions.Code
		want        string
		logs        []actions.LogLine
	}{
		{"unknown model", "nope", nil, actions.NotFound, `there is no model "nope"; there are echo, other`, nil},
		{"the model's", "echo", failing(&actions.Error{Code: actions.Failed, Msg: "boom", Logs: lines}), actions.Failed, "boom", lines},
		{"exited", "echo", failing(actions.Errorf(actions.Exited, "exit status 3")), actions.Exited, "command exited", []actions.LogLine{{Stream: actions.Stderr, Text: "deepfn: exit status 3"}}},
		{"internal hides its cause", "echo", failing(errors.New("secret")), actions.Internal, "internal error; the log has its cause under request id abc", nil},
		{"panic", "echo", func(context.Context, actions.Request) (actions.Response, error) { panic("at the disco") }, actions.Internal, "internal error; the log has its cause under request id abc", nil},
		{"over the limit", "echo", func(context.Context, actions.Request) (actions.Response, error) {
			return actions.Response{ContentType: jsonType, Data: []byte(`{"a":"` + strings.Repeat("x", 100) + `"}`), Logs: lines}, nil
		}, actions.TooLarge, "the answer has 108 bytes…", lines},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newServer(t, Config{Invoker: &fakeInvoker{answer: tt.answer}, MaxPayload: 90})
			_, err := s.Activate(t.Context(), actions.Activation{Model: tt.model, ID: "abc"})
			e, ok := errors.AsType[*actions.Error](err)
			if !ok {
				t.Fatalf("got %v, want an actions.Error", err)
			}
			start, _ := strings.CutSuffix(tt.want, "…")
			if e.Code != tt.code || !strings.HasPrefix(e.Msg, start) {
				t.Errorf("got %s %q, want %s %q", e.Code, e.Msg, tt.code, tt.want)
			}
			if diff := cmp.Diff(tt.logs, e.Logs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestActivateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := &fakeInvoker{answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
			<-ctx.Done()
			return actions.Response{}, ctx.Err()
		}}
		s, _ := newServer(t, Config{Invoker: inv})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Activate(ctx, actions.Activation{Model: "echo"}); actions.CodeOf(err) != actions.Deadline {
			t.Errorf("got %v, want a deadline", err)
		}
		cancel()
		if _, err := s.Activate(ctx, actions.Activation{Model: "echo"}); actions.CodeOf(err) != actions.Deadline || inv.calls() != 1 {
			t.Errorf("got %v after %d calls, want a deadline without another", err, inv.calls())
		}
	})
}

// Answers are their callers', and no memory is used twice.
func TestActivateConcurrently(t *testing.T) {
	s, _ := newServer(t, Config{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			want := fmt.Sprintf(`{"n":%d}`, i)
			value := []byte(want)
			resp, err := s.Activate(t.Context(), actions.Activation{Model: "echo", Value: value})
			clear(value) // which is the caller's again
			if err != nil || string(resp.Data) != want {
				t.Errorf("got %s and %v, want %s", resp.Data, err, want)
			}
		})
	}
	wg.Wait()
	if used := s.bodies.used.Load(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
}

// What OpenWhisk's own tests want of functions costs the container; the end of another
// model's process does not, because another one is started.
func TestRunOfFunctions(t *testing.T) {
	died := &actions.Error{Code: actions.Unavailable, Msg: "the process ended: exit status 1", Err: actions.ErrDied}
	const function, other = `{"function":true,"predict":{"parameters":[]}}`, `{"predict":{"parameters":[]}}`
	for _, tt := range []struct {
		name, runtime, info string
		err                 error
		status              int
		want, log           string
	}{
		{"no result", actions.Python, function, actions.Errorf(actions.NoAnswer, "The action did not return a dictionary or array."), 502, "The action did not return a dictionary or array.", ""},
		{"it exits", actions.Python, function, died, 400, "command exited", "deepfn: the process ended: exit status 1\n"},
		{"its start fails", actions.Python, function, actions.Errorf(actions.Unavailable, "it does not start"), 200, "it does not start", ""},
		{"it raises", actions.Python, function, actions.Errorf(actions.Failed, "ValueError"), 200, "ValueError", ""},
		{"an executable exits", actions.Executable, "", actions.Errorf(actions.Exited, "the command exited: exit status 2"), 400, "command exited", "deepfn: the command exited: exit status 2\n"},
		{"an executable's host exits", actions.Executable, "", died, 400, "command exited", "deepfn: the process ended: exit status 1\n"},
		{"a module exits", actions.Python, other, died, 200, "the process ended: exit status 1", ""},
		{"a module that never started", actions.Python, "", died, 200, "the process ended: exit status 1", ""},
		{"ONNX", actions.ONNX, "", died, 200, "the process ended: exit status 1", ""},
		{"a server", actions.HTTP, other, died, 200, "the process ended: exit status 1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			catalog := oneModel{actions.Model{Name: "mod", Runtime: tt.runtime}}
			inv := &fakeInvoker{answer: failing(tt.err), info: []byte(tt.info)}
			s, st := newServer(t, Config{Model: "mod", Catalog: catalog, Invoker: inv})
			wantResponse(t, post(t, s, "/run", `{}`), tt.status, fmt.Sprintf("{\"error\":%q}\n", tt.want))
			wantSentinels(t, st, 1)
			if got, _, _ := strings.Cut(st.err.String(), sentinel); got != tt.log {
				t.Errorf("got %q on stderr, want %q", got, tt.log)
			}
		})
	}
}
