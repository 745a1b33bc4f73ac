package bridge_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/bridge"
)

func TestAnswers(t *testing.T) {
	w := start(t, spec(startPlain))
	const jsonType = "application/json"
	for _, test := range []struct {
		do, contentType, filename, data string
		whole                           bool
	}{
		{"result", jsonType, "", `{"a": 1.0}`, false},
		{"whole", jsonType, "", `{"status":"OK","predictions":1,"more":2}`, true},
		{"whole-error", jsonType, "", `{"status":"error","predictions":1}`, true},
		{"whole-list", jsonType, "", `[1,2]`, true},
		{"image", "image/png", "cat.png", "\x89PNG\x00\xff", false},
		{"empty", "application/octet-stream", "", "", false},
		{"redirect", jsonType, "", `{"query":{"do":[""]},"form":{},"files":null,"json":null,"accept":"","key":""}`, false},
	} {
		t.Run(test.do, func(t *testing.T) {
			resp, err := w.Call(t.Context(), do(test.do))
			if err != nil || resp.ContentType != test.contentType || resp.Filename != test.filename ||
				string(resp.Data) != test.data || resp.Whole != test.whole {
				t.Errorf("got %s %q %q whole %v, %v", resp.ContentType, resp.Filename, resp.Data, resp.Whole, err)
			}
			if len(resp.Logs) == 0 || resp.Logs[0].Text != "predicting" {
				t.Errorf("got logs %v", resp.Logs)
			}
		})
	}
}

// What the server says, and what is wrong with it, gets a code and keeps its status. The
// server goes on.
func TestErrors(t *testing.T) {
	w := start(t, spec(startPlain))
	before := pid(t, w)
	for _, test := range []struct {
		do     string
		code   actions.Code
		status int
		msg    string
		fields map[string][]string
	}{
		{"422", actions.Invalid, 422, "refused", map[string][]string{"image": {"Missing data for required field."}}},
		{"422-located", actions.Invalid, 422, "refused", map[string][]string{"top": {"Not a number."}}},
		{"400-reason", actions.Invalid, 400, "400 Bad Request: 400: no cat in the picture", nil},
		{"html", actions.Failed, 500, "the server answered 500 Internal Server Error", nil},
		{"message", actions.Unavailable, 503, "503 Service Unavailable: later", nil},
		{"402", actions.Unsupported, 402, "402", nil},
		{"404", actions.NotFound, 404, "404", nil},
		{"413", actions.TooLarge, 413, "413", nil},
		{"garbage", actions.Failed, 0, "not the JSON that it says it is", nil},
		{"huge", actions.TooLarge, 0, "longer than 4194304 bytes", nil},
		{"endless", actions.TooLarge, 0, "longer than 4194304 bytes", nil},
		{"loop", actions.Failed, 0, "308", nil},
		{"elsewhere", actions.Failed, 0, "308 Permanent Redirect http://127.0.0.1:1/x", nil},
		{"see-other", actions.Failed, 0, "303", nil},
		{"hangup", actions.Unavailable, 0, "hung up without an answer", nil},
		{"half", actions.Unavailable, 0, "hung up without an answer", nil},
	} {
		t.Run(test.do, func(t *testing.T) {
			_, err := w.Call(t.Context(), do(test.do))
			e := wantError(t, err, test.code, test.msg)
			if diff := cmp.Diff(test.fields, e.Fields); diff != "" || e.Status != test.status {
				t.Errorf("got status %d, want %d; fields %s", e.Status, test.status, diff)
			}
			if strings.Contains(e.Msg, "<html>") || strings.ContainsRune(e.Msg, 0) {
				t.Errorf("got message %q", e.Msg)
			}
		})
	}
	if pid(t, w) != before {
		t.Error("the server was started again")
	}
}

// A server that dies is started for the next request.
func TestDies(t *testing.T) {
	w := start(t, spec(startPlain))
	for range 2 {
		_, err := w.Call(t.Context(), do("die"))
		wantError(t, err, actions.Unavailable, "the server ended: exit status 7")
		works(t, w)
	}
	if err := syscall.Kill(pid(t, w), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it works again", func() bool {
		_, err := w.Call(t.Context(), do("result"))
		return err == nil
	})
}

func TestRestartThatFails(t *testing.T) {
	w := start(t, spec(startSecond, "STARTS="+filepath.Join(t.TempDir(), "starts")))
	_, err := w.Call(t.Context(), do("die"))
	wantError(t, err, actions.Unavailable, "the server ended")
	for range 2 {
		_, err = w.Call(t.Context(), do("result"))
		wantError(t, err, actions.Unavailable, "cannot be started again: http: the server ended before it was ready: exit status 3")
	}
}

// A server that does not answer is ended, by the watchdog or in the time of the request,
// and another one is there for the next request.
func TestWatchdog(t *testing.T) {
	watched := spec(startPlain)
	watched.Watchdog = "1s"
	for _, test := range []struct {
		name string
		spec bridge.Spec
		time time.Duration
		msg  string
	}{
		{"watchdog", watched, 0, "within the watchdog's 1s"},
		{"time of the request", spec(startPlain), time.Second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, test.spec)
			before := pid(t, w)
			ctx := t.Context()
			if test.time > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.time)
				defer cancel()
			}
			_, err := w.Call(ctx, do("hang"))
			wantError(t, err, actions.Deadline, test.msg)
			if err := w.Settle(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the server ends", func() bool { return !alive(before) })
			works(t, w)
		})
	}
}

// A caller who leaves does not cost the others their server.
func TestCallerLeaves(t *testing.T) {
	dir := t.TempDir()
	w := start(t, spec(startPlain, "HANGING="+dir))
	before := pid(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(ctx, do("hang"))
		done <- err
	}()
	eventually(t, "the request is there", func() bool { return entries(t, dir) == 1 })
	cancel()
	wantError(t, <-done, actions.Canceled, "")
	if err := w.Settle(); err != nil {
		t.Fatal(err)
	}
	if pid(t, w) != before {
		t.Error("the server was started again")
	}
}

// entries counts what is in a folder.
func entries(tb testing.TB, dir string) int {
	tb.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return len(all)
}

func TestClose(t *testing.T) {
	w := start(t, spec(startPlain))
	server := pid(t, w)
	_ = w.Close()
	eventually(t, "the server ends", func() bool { return !alive(server) })
	w = start(t, spec(startPlain))
	server = pid(t, w)
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server ends with the worker", func() bool { return !alive(server) })
}

func TestManyCallers(t *testing.T) {
	cfg := config(t, spec(startPlain))
	cfg.Concurrency = 8
	w := startConfig(t, cfg)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 10 {
				want := string(rune('a' + i))
				resp, err := w.Call(t.Context(), actions.Request{Args: []byte(`{"x":"` + want + `"}`)})
				var got seen
				if err != nil || json.Unmarshal(resp.Data, &got) != nil || string(got.JSON) != `{"x":"`+want+`"}` {
					t.Errorf("got %s, %v, want %s", resp.Data, err, want)
				}
			}
		})
	}
	all.Wait()
}

// When one request makes the server die, those beside it fail as well, and all later ones
// are answered.
func TestDiesBesideOthers(t *testing.T) {
	dir := t.TempDir()
	cfg := config(t, spec(startPlain, "HANGING="+dir))
	cfg.Concurrency = 4
	w := startConfig(t, cfg)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			_, err := w.Call(t.Context(), do("hang"))
			wantCode(t, err, actions.Unavailable)
		})
	}
	eventually(t, "the requests are there", func() bool { return entries(t, dir) == 3 })
	_, err := w.Call(t.Context(), do("die"))
	wantCode(t, err, actions.Unavailable)
	all.Wait()
	works(t, w)
}

func TestTrain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "deleted")
	w := start(t, spec(startPlain, "DELETED="+name))
	train := func(as string) actions.Request {
		return actions.Request{Verb: actions.Train, Texts: []actions.Text{{Origin: actions.FromQuery, Name: "as", Value: as}}}
	}
	for as, want := range map[string]string{"done": `{"loss":0.5}`, "plain": "null"} {
		resp, err := w.Call(t.Context(), train(as))
		if err != nil || string(resp.Data) != want {
			t.Errorf("%s: got %s, %v, want %s", as, resp.Data, err, want)
		}
	}
	for _, test := range []struct {
		as   string
		code actions.Code
		msg  string
	}{
		{"error", actions.Failed, "no data"},
		{"cancelled", actions.Failed, "cancelled"},
		{"odd", actions.Failed, `"odd"`},
		{"refused", actions.Invalid, "refused"},
		{"garbage", actions.Failed, "not a training"},
		{"nameless", actions.Failed, "without an id"},
		{"gone", actions.NotFound, "404"},
		{"die", actions.Unavailable, "the server ended: exit status 9"},
	} {
		_, err := w.Call(t.Context(), train(test.as))
		if actions.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.msg) {
			t.Errorf("%s: got %q %v, want %q with %q", test.as, actions.CodeOf(err), err, test.code, test.msg)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := w.Call(ctx, train("forever"))
	wantError(t, err, actions.Deadline, "")
	if err := w.Settle(); err != nil || !exists(name) {
		t.Errorf("the training was not cancelled, %v", err)
	}
	works(t, w)
}

func TestParseTrain(t *testing.T) {
	w := start(t, spec(startPlain))
	resp, err := w.Call(t.Context(), actions.Request{
		Verb: actions.ParseTrain, Args: []byte(`{"b":[1]}`),
		Texts: []actions.Text{
			{Origin: actions.FromQuery, Name: "a", Value: "1"},
			{Origin: actions.FromForm, Name: "a", Value: "2"},
			{Origin: actions.FromContext, Name: "__OW_API_KEY", Value: "secret"},
		},
		Files: []actions.File{{Name: "f", Filename: "x.csv", Data: []byte("1")}},
	})
	if want := `{"a":["1","2"],"b":[1],"f":{"content_type":"","filename":"x.csv"}}`; err != nil || string(resp.Data) != want {
		t.Errorf("got %s, %v, want %s", resp.Data, err, want)
	}
	_, err = w.Call(t.Context(), actions.Request{Verb: actions.ParseTrain, Args: []byte(`[1]`)})
	wantError(t, err, actions.Invalid, "not a JSON object")
	_, err = w.Call(t.Context(), actions.Request{Verb: "dance"})
	wantError(t, err, actions.Unsupported, "dance")
}

func TestBadSetup(t *testing.T) {
	for setup, msg := range map[string]string{
		`{"x":1}`:                   "setup: unknown key",
		`{"spec":{"port":-1}}`:      "port",
		`{"spec":{"env":{"":"x"}}}`: "env",
		`{"spec":{},`:               "setup",
	} {
		_, err := bridge.New().Start(t.Context(), json.RawMessage(setup))
		if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), msg) {
			t.Errorf("%s: got %v, want %q", setup, err, msg)
		}
	}
}
