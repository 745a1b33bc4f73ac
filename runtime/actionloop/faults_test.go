package actionloop_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

func TestStartFaults(t *testing.T) {
	for _, test := range []struct {
		name, start, msg, log string
	}{
		{"exits after six milliseconds", startExit, "ended before it was asked anything: exit status 3", "2:no weights here"},
		{"a line before any request", startEarly, "it wrote before it was asked", ""},
		{"not ready", startRefuse, `"{\"ok\":false,\"error\":\"no GPU\"}" instead of {"ok":true}`, ""},
		{"hangs up", startClose, "closed descriptor 3", ""},
		{"closes its standard input", startMute, "closed its standard input", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := worker.Start(t.Context(), config(t, model(test.start)))
			e := wantError(t, err, actions.Failed, test.msg)
			if !strings.Contains(logText(e.Logs), test.log) {
				t.Errorf("got logs %q, want %q", logText(e.Logs), test.log)
			}
		})
	}
}

// An executable that closes its standard input and lives on holds nobody up: it is ended,
// and what it has read nothing of is given to the next.
func TestClosesItsInput(t *testing.T) {
	long := knobs{Stderr: strings.Repeat("x", 1<<20)}
	for _, test := range []struct{ name, start, msg string }{
		{"with a request unread", startShut, ""},
		{"in the middle of a request", startHalf, "the executable was ended: it closed its standard input"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := startModel(t, model(test.start, "STARTS="+filepath.Join(t.TempDir(), "starts")))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := w.Call(ctx, long.request())
			if test.msg != "" {
				wantError(t, err, actions.Failed, test.msg)
			} else if err != nil {
				t.Errorf("got %v, want the answer of the next", err)
			}
			echo(t, w)
		})
	}
	t.Run("with its answer", func(t *testing.T) {
		w := startModel(t, model(startPlain))
		if got := call(t, w, knobs{Deafen: true, Raw: "{\"last\":true}\n"}); got != `{"last":true}` {
			t.Errorf("got %s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		resp, err := w.Call(ctx, knobs{Stderr: "mine\n"}.request())
		if got := logText(resp.Logs); err != nil || !strings.Contains(got, "started again: it closed its standard input") {
			t.Errorf("got %v, logs %q", err, got)
		}
	})
}

// An executable that ends before it has answered anything is reported with what it
// printed, however late it ends.
func TestEndsBeforeTheFirstAnswer(t *testing.T) {
	w := startModel(t, model(startPlain))
	_, err := w.Call(t.Context(), knobs{Exit: 7, Stderr: "out of memory\n"}.request())
	e := wantError(t, err, actions.Exited, "the command exited before its first answer: exit status 7")
	if got := logText(e.Logs); !strings.Contains(got, "2:out of memory") {
		t.Errorf("got logs %q", got)
	}
	echo(t, w)
}

func TestStartIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := worker.Start(ctx, config(t, model(startNever)))
	wantError(t, err, actions.Deadline, "")
}

func TestWarningsDoNotFailTheStart(t *testing.T) {
	echo(t, startModel(t, model(startNoise)))
}

// Answers that are wrong leave the executable as it was when it is in step, and else end
// it. The next request is answered in both cases.
func TestWrongAnswers(t *testing.T) {
	for _, test := range []struct {
		name string
		k    knobs
		code actions.Code
		msg  string
		kept bool
	}{
		{"null", knobs{Raw: "null\n"}, actions.NoAnswer, "", true},
		{"a number", knobs{Raw: "17\n"}, actions.NoAnswer, "", true},
		{"a string", knobs{Raw: "\"x\"\n"}, actions.NoAnswer, "", true},
		{"a long string", knobs{Raw: "\"" + strings.Repeat("x", 1000) + "\"\n"}, actions.NoAnswer, "", true},
		{"not JSON", knobs{Raw: "XXX\n"}, actions.NoAnswer, "not a line of JSON: \"XXX\"", false},
		{"not UTF-8", knobs{Bytes: []byte("[\"\xff\"]\n")}, actions.NoAnswer, "not a line of JSON", false},
		{"empty", knobs{Raw: "\n"}, actions.NoAnswer, "not a line of JSON: \"\"", false},
		{"two values", knobs{Raw: "{} {}\n"}, actions.NoAnswer, "not a line of JSON", false},
		{"two lines", knobs{Raw: "{\"a\":1}\n{\"b\":2}\n"}, actions.Failed, "more than one line for one request", false},
		{"a line and a half", knobs{Raw: "{\"a\":1}\n{\"b\""}, actions.Failed, "more than one line", false},
		{"pretty", knobs{Raw: "{\n  \"a\": 1\n}\n"}, actions.Failed, "more than one line", false},
		{"half a line and exit", knobs{Raw: "{\"a\"", Exit: 3}, actions.Exited, "the command exited in the middle of its answer, after 4 bytes: exit status 3", false},
		{"exit", knobs{Exit: 5}, actions.Exited, "the command exited: exit status 5", false},
		{"killed", knobs{Kill: true}, actions.Unavailable, "the command exited: signal: killed", false},
		{"closes descriptor 3", knobs{Close: true}, actions.Failed, "it closed descriptor 3", false},
		{"too long", knobs{Size: 4<<20 + 1}, actions.TooLarge, "longer than 4194304 bytes", true},
		{"much too long", knobs{Size: 40 << 20}, actions.Failed, "it wrote a line of more than", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := startModel(t, model(startPlain))
			before := pid(t, w, knobs{PID: true})
			_, err := w.Call(t.Context(), test.k.request())
			if test.code == actions.NoAnswer { // the words are OpenWhisk's; of what is not JSON the log says more
				wantError(t, err, test.code, "The action did not return a dictionary or array.")
				if got := logsOf(err); !strings.Contains(got, test.msg) || test.msg == "" && got != "" {
					t.Errorf("got logs %q, want %q in them", got, test.msg)
				}
			} else {
				wantError(t, err, test.code, test.msg)
			}
			echo(t, w)
			if kept := pid(t, w, knobs{PID: true}) == before; kept != test.kept {
				t.Errorf("the executable was kept: %v, want %v", kept, test.kept)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	w := startModel(t, model(startPlain))
	if got := call(t, w, knobs{Size: 4 << 20}); len(got) != 4<<20 {
		t.Errorf("got %d bytes, want the limit", len(got))
	}
}

// An answer that was complete counts, whatever the executable did next.
func TestExitsAfterItsAnswer(t *testing.T) {
	w := startModel(t, model(startPlain))
	for range 3 {
		if got := call(t, w, knobs{Raw: "{\"last\":true}\n", After: true, Exit: 1}); got != `{"last":true}` {
			t.Errorf("got %s", got)
		}
	}
	echo(t, w)
}

// An executable that exits after each answer loses none of many requests: one of which it
// has read nothing is given to the next.
func TestExitsBetweenRequests(t *testing.T) {
	w := startModel(t, model(startOnce))
	for range 20 {
		echo(t, w)
	}
}

func TestRestartThatFails(t *testing.T) {
	starts := filepath.Join(t.TempDir(), "starts")
	w := startModel(t, model(startSecond, "STARTS="+starts))
	_, err := w.Call(t.Context(), knobs{Exit: 5}.request())
	wantError(t, err, actions.Exited, "the command exited")
	for range 2 {
		_, err = w.Call(t.Context(), knobs{}.request())
		e := wantError(t, err, actions.Unavailable, "cannot be started again: the executable did not start: it ended before it was ready: exit status 4")
		if !strings.Contains(logText(e.Logs), "2:not twice") {
			t.Errorf("got logs %q", logText(e.Logs))
		}
	}
}

// A second line that comes late is not taken for the answer to the next request.
func TestLateLine(t *testing.T) {
	w := startModel(t, model(startPlain))
	late := filepath.Join(t.TempDir(), "late")
	call(t, w, knobs{Late: late})
	if err := os.WriteFile(late, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the late line", func() bool { return exists(late + ".done") })
	resp, err := w.Call(t.Context(), knobs{Stderr: "mine\n"}.request())
	if err != nil || !strings.Contains(string(resp.Data), "mine") {
		t.Fatalf("got %s, %v", resp.Data, err)
	}
	if got := logText(resp.Logs); !strings.Contains(got, "started again: it wrote a line that nobody had asked for") {
		t.Errorf("got logs %q", got)
	}
}

// A late line that arrives when the next request has been written already, but was not
// read, is noticed as well: that request fails, and gets nobody else's answer.
func TestLateLineAfterTheNextRequest(t *testing.T) {
	w := startModel(t, model(startPlain))
	late := filepath.Join(t.TempDir(), "late")
	executable := pid(t, w, knobs{PID: true})
	call(t, w, knobs{Late: late})
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(t.Context(), knobs{Stderr: "mine\n"}.request())
		done <- err
	}()
	// The executable reads the request only after its line.
	eventually(t, "the request is written", func() bool { return queued(t, executable) })
	if err := os.WriteFile(late, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-done, actions.Failed, "it answered before it had read the request")
	echo(t, w)
}

// Each of many callers at a time gets its own answer.
func TestManyCallers(t *testing.T) {
	cfg := config(t, model(startPlain))
	cfg.Concurrency = 8
	w := start(t, cfg)
	var all sync.WaitGroup
	for c := range 8 {
		all.Go(func() {
			for i := range 100 {
				want := fmt.Sprintf("caller %d request %d", c, i)
				resp, err := w.Call(t.Context(), actions.Request{Args: fmt.Appendf(nil, `{"x":%q}`, want)})
				if err != nil || !strings.Contains(string(resp.Data), want) {
					t.Errorf("got %s, %v, want %q", resp.Data, err, want)
					return
				}
			}
		})
	}
	all.Wait()
}

// The answer for a caller who has left goes to nobody, and the executable stays warm.
func TestCallerLeaves(t *testing.T) {
	w := startModel(t, model(startPlain))
	before := pid(t, w, knobs{PID: true})
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(ctx, knobs{Touch: dir + "/begun", Until: dir + "/go", Raw: "{\"stale\":true}\n"}.request())
		done <- err
	}()
	eventually(t, "the call begins", func() bool { return exists(dir + "/begun") })
	cancel()
	wantError(t, <-done, actions.Canceled, "")
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(); err != nil {
		t.Fatal(err)
	}
	echo(t, w)
	if pid(t, w, knobs{PID: true}) != before {
		t.Error("the executable was started again")
	}
}

// An executable that hangs is ended by the parent, with all that it has started.
func TestHang(t *testing.T) {
	for _, test := range []struct {
		name, start string
		k           knobs
	}{
		{"in a request", startPlain, knobs{Hang: true}},
		{"never reads", startDeaf, knobs{Stderr: strings.Repeat("x", 1<<20)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, model(test.start))
			cfg.CancelGrace = 100 * time.Millisecond
			w := start(t, cfg)
			var pids []int
			if test.start == startPlain {
				pids = []int{pid(t, w, knobs{PID: true}), pid(t, w, knobs{Child: true})}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := w.Call(ctx, test.k.request())
			wantError(t, err, actions.Deadline, "")
			if err := w.Settle(); err == nil {
				t.Error("the worker lives")
			}
			<-w.Done()
			for _, pid := range pids {
				eventually(t, "its processes end", func() bool { return !alive(pid) })
			}
		})
	}
}

// What an executable leaves behind, with its pipes, ends when the executable does.
func TestOrphans(t *testing.T) {
	w := startModel(t, model(startPlain))
	orphan := pid(t, w, knobs{Child: true})
	_, err := w.Call(t.Context(), knobs{Exit: 3}.request())
	wantError(t, err, actions.Exited, "the command exited: exit status 3")
	if alive(orphan) {
		t.Error("the orphan lives")
	}
	echo(t, w)
}

func TestWorkerIsKilled(t *testing.T) {
	w := startModel(t, model(startPlain))
	pids := []int{pid(t, w, knobs{PID: true}), pid(t, w, knobs{Child: true})}
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-w.Done()
	for _, pid := range pids {
		eventually(t, "its processes end", func() bool { return !alive(pid) })
	}
}

// The executable may put things in order when it is told to end.
func TestClose(t *testing.T) {
	name := filepath.Join(t.TempDir(), "orderly")
	w := startModel(t, model(startOrderly, "ORDERLY="+name))
	_ = w.Close()
	if !exists(name) {
		t.Error("the executable was not told to end")
	}
}
