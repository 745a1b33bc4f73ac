package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

func TestStartFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault workertest.Fault
		setup workertest.Setup
		code  actions.Code
		msgs  []string // of which the message has to contain each
		logs  int
		stack bool // there are more lines
	}{
		{name: "another version", fault: workertest.HelloVersion, msgs: []string{"version 99", "version 1"}},
		{name: "garbage", fault: workertest.HelloGarbage, msgs: []string{"something else than frames", "Hello"}},
		{name: "early exit", fault: workertest.HelloExit, msgs: []string{"exit status 3", "reason 29"}, logs: 30},
		{name: "closed pipe", fault: workertest.HelloClose, msgs: []string{"closed its control pipe"}},
		{name: "long info", fault: workertest.ReadyLength, msgs: []string{"bytes in a lane of"}},
		{name: "exit while loading", setup: workertest.Setup{Exit: 4}, msgs: []string{"exit status 4", "the start ends"}, logs: 1},
		{name: "error", setup: workertest.Setup{Error: "no weights", Code: actions.NotFound}, code: actions.NotFound, msgs: []string{"no weights"}},
		{name: "plain error", setup: workertest.Setup{Error: "no weights"}, code: actions.Failed, msgs: []string{"no weights"}},
		{name: "panic", setup: workertest.Setup{Panic: "ouch"}, code: actions.Failed, msgs: []string{"ouch"}, stack: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := config()
			if test.fault != "" {
				cfg = config(test.fault)
			}
			cfg.Setup = test.setup.JSON()
			_, err := worker.Start(t.Context(), cfg)
			if test.code == "" {
				test.code = actions.Unavailable
			}
			e := wantCode(t, err, test.code)
			for _, msg := range test.msgs {
				if !strings.Contains(e.Msg, msg) {
					t.Errorf("message %q does not contain %q", e.Msg, msg)
				}
			}
			if more := len(e.Logs) > test.logs; more != test.stack || len(e.Logs) < test.logs {
				t.Errorf("got %d lines, want %d and a stack %v: %v", len(e.Logs), test.logs, test.stack, e.Logs)
			}
		})
	}
}

func TestStartOfNoWorker(t *testing.T) {
	tests := []struct {
		name string
		argv []string
		msg  string
		code actions.Code
	}{
		{"nothing", nil, "Argv", actions.Invalid},
		{"no program", []string{"/no/such/program"}, "no such file", actions.Unavailable},
		{"no such name", []string{"deepfn-no-such-program"}, "not found", actions.Unavailable},
		{"not a worker", []string{"/bin/sh", "-c", "echo I am none >&2; exit 5"}, "exit status 5: I am none", actions.Unavailable},
		{"half a hello", []string{"/bin/sh", "-c", "echo DFNW >&4"}, "exit status 0", actions.Unavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := worker.Start(t.Context(), worker.Config{Argv: test.argv})
			if e := wantCode(t, err, test.code); !strings.Contains(e.Msg, test.msg) {
				t.Errorf("message %q does not contain %q", e.Msg, test.msg)
			}
		})
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	for name, cfg := range map[string]worker.Config{
		"no hello": config(workertest.HelloNever),
		"hanging":  withSetup(workertest.Setup{Hang: true}),
		"loading":  withSetup(workertest.Setup{Wait: true}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := worker.Start(ctx, cfg)
			wantCode(t, err, actions.Deadline)
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(200*time.Millisecond, cancel)
			_, err = worker.Start(ctx, cfg)
			wantCode(t, err, actions.Canceled)
			_, err = worker.Start(ctx, cfg)
			wantCode(t, err, actions.Canceled)
		})
	}
	if children := childrenOf(t); len(children) > 0 {
		t.Errorf("processes are left: %v", children)
	}
}

func withSetup(s workertest.Setup) worker.Config {
	cfg := config()
	cfg.Setup = s.JSON()
	return cfg
}

// childrenOf returns the processes that this one has started and not reaped.
func childrenOf(t *testing.T) []string {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var children []string
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		children = append(children, strings.Fields(string(b))...)
	}
	return children
}

func TestDeathInACall(t *testing.T) {
	tests := []struct {
		name string
		args workertest.Args
		msg  string
	}{
		{"exit", workertest.Args{Stderr: 2, Exit: 7}, "exit status 7"},
		{"kill -9", workertest.Args{Stderr: 2, Signal: int(syscall.SIGKILL)}, "signal: killed"},
		{"terminated", workertest.Args{Stderr: 2, Signal: int(syscall.SIGTERM)}, "signal: terminated"},
		{"segmentation fault", workertest.Args{Stderr: 2, Signal: int(syscall.SIGSEGV)}, "exit status 2"}, // as Go ends by it
		{"closed pipe", workertest.Args{Stderr: 2, CloseControl: true}, "closed its control pipe"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, config())
			_, err := w.Call(t.Context(), actions.Request{Args: test.args.JSON()})
			e := wantCode(t, err, actions.Unavailable)
			if !strings.Contains(e.Msg, test.msg) {
				t.Errorf("message %q does not contain %q", e.Msg, test.msg)
			}
			if len(e.Logs) < 2 || e.Logs[1].Text != "line 1" {
				t.Errorf("got lines %v", e.Logs)
			}
			wantDone(t, w)
			if w.Err() == nil || !strings.Contains(w.Err().Error(), test.msg) {
				t.Errorf("Err: got %v", w.Err())
			}
			_, err = w.Call(t.Context(), actions.Request{})
			wantCode(t, err, actions.Unavailable)
			if w.Settle() == nil {
				t.Error("a dead worker settles")
			}
		})
	}
}

func TestDeathBetweenCalls(t *testing.T) {
	w := start(t, config())
	echo(t, w)
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantDone(t, w)
	if w.Err() == nil || !strings.Contains(w.Err().Error(), "killed") {
		t.Errorf("Err: got %v", w.Err())
	}
}

func TestDeathWithConcurrentCalls(t *testing.T) {
	cfg := config()
	cfg.Concurrency = 4
	w := start(t, cfg)
	errs := make(chan error, 4)
	dir := t.TempDir()
	for i := range 4 {
		args := workertest.Args{Touch: fmt.Sprintf("%s/%d", dir, i), Hang: true}
		go func() {
			_, err := w.Call(t.Context(), actions.Request{Args: args.JSON()})
			errs <- err
		}()
		eventually(t, "the call begins", func() bool { return exists(args.Touch) })
	}
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		wantCode(t, <-errs, actions.Unavailable)
	}
}

func TestBrokenFrames(t *testing.T) {
	tests := []struct {
		fault workertest.Fault
		msg   string
	}{
		{workertest.FrameGarbage, "something else than frames"},
		{workertest.FrameVersion, "version 99"},
		{workertest.FrameType, "type 1"},
		{workertest.FrameID, "which nobody waits for"},
		{workertest.FrameLane, "lane 1000"},
		{workertest.FrameLength, "the limit is"},
		{workertest.FrameParts, "parts where there must be one"},
		{workertest.FramePart, "bytes of data in a payload"},
		{workertest.FrameHalf, "the process ended: exit status 0"},
	}
	for _, test := range tests {
		t.Run(string(test.fault), func(t *testing.T) {
			w := start(t, config(workertest.Frames))
			echo(t, w)
			_, err := w.Call(t.Context(), actions.Request{Args: workertest.Args{Stdout: 1, Frame: test.fault}.JSON()})
			e := wantCode(t, err, actions.Unavailable)
			if !strings.Contains(e.Msg, test.msg) {
				t.Errorf("message %q does not contain %q", e.Msg, test.msg)
			}
			if len(e.Logs) != 1 {
				t.Errorf("got lines %v", e.Logs)
			}
			if died := errors.Is(err, actions.ErrDied); died != (test.fault == workertest.FrameHalf) {
				t.Errorf("it died by itself: %v", died)
			}
			wantDone(t, w)
			if w.Err() == nil || !strings.Contains(w.Err().Error(), test.msg) {
				t.Errorf("Err: got %v", w.Err())
			}
		})
	}
}

// The second answer is noticed by the next call, which must not take it for its own.
func TestAnswerTwice(t *testing.T) {
	w := start(t, config(workertest.Frames))
	call(t, w, workertest.Args{Frame: workertest.FrameTwice})
	_, err := w.Call(t.Context(), actions.Request{Args: []byte(`{}`)})
	e := wantCode(t, err, actions.Unavailable)
	if !strings.Contains(e.Msg, "which nobody waits for") {
		t.Errorf("got %q", e.Msg)
	}
	wantDone(t, w)
}

func TestNoAnswer(t *testing.T) {
	cfg := config(workertest.Frames)
	cfg.CancelGrace = 50 * time.Millisecond
	w := start(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.Call(ctx, actions.Request{Args: workertest.Args{Frame: workertest.FrameNever}.JSON()})
	wantCode(t, err, actions.Deadline)
	if err := w.Settle(); err == nil || !strings.Contains(err.Error(), "after its caller had left") {
		t.Errorf("Settle: got %v", err)
	}
	wantDone(t, w)
}

func TestCancelReachesTheProgram(t *testing.T) {
	w := start(t, config())
	for range 10 {
		abandon(t, w, workertest.Args{Wait: true, Stdout: 1})
		if err := w.Settle(); err != nil {
			t.Fatal(err)
		}
		echo(t, w)
	}
}

func TestDeadlineReachesTheProgram(t *testing.T) {
	w := start(t, config())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.Call(ctx, actions.Request{Args: workertest.Args{Wait: true}.JSON()})
	wantCode(t, err, actions.Deadline)
	if err := w.Settle(); err != nil {
		t.Fatal(err)
	}
	echo(t, w)
}

// A deadline beyond what 64 bits of nanoseconds reach, the year 2262, is none.
func TestFarDeadline(t *testing.T) {
	w := start(t, config())
	ctx, cancel := context.WithDeadline(t.Context(), time.UnixMilli(9_999_999_999_999))
	defer cancel()
	resp, err := w.Call(ctx, actions.Request{Args: workertest.Args{Describe: true}.JSON()})
	if err != nil {
		t.Fatal(err)
	}
	var got workertest.Description
	if err := json.Unmarshal(resp.Data, &got); err != nil || got.HasDeadline {
		t.Errorf("got %s, %v; want no deadline", resp.Data, err)
	}
}

// The answer of an abandoned call belongs to nobody, and the next caller gets its own.
func TestLateAnswer(t *testing.T) {
	w := start(t, config())
	until := t.TempDir() + "/go"
	abandon(t, w, workertest.Args{Until: until, Bytes: 100})
	_, err := w.Call(t.Context(), actions.Request{})
	wantCode(t, err, actions.Unavailable)
	touch(t, until)
	if err := w.Settle(); err != nil {
		t.Fatal(err)
	}
	echo(t, w)
}

func TestCallThatDoesNotEndIsKilled(t *testing.T) {
	cfg := config()
	cfg.CancelGrace = 50 * time.Millisecond
	w := start(t, cfg)
	e := abandon(t, w, workertest.Args{Stderr: 1, Hang: true})
	if len(e.Logs) != 1 {
		t.Errorf("got lines %v", e.Logs)
	}
	if err := w.Settle(); err == nil || !strings.Contains(err.Error(), "after its caller had left") {
		t.Errorf("Settle: got %v", err)
	}
	wantDone(t, w)
}

func TestCloseKillsWhatDoesNotEnd(t *testing.T) {
	cfg := config()
	cfg.StopGrace = 50 * time.Millisecond
	w := start(t, cfg)
	touched := t.TempDir() + "/begun"
	done := make(chan error, 1)
	go func() {
		_, err := w.Call(t.Context(), actions.Request{Args: workertest.Args{Touch: touched, Hang: true}.JSON()})
		done <- err
	}()
	eventually(t, "the call begins", func() bool { return exists(touched) })
	if err := w.Close(); err != nil || w.Err() != nil {
		t.Errorf("Close: %v, Err: %v", err, w.Err())
	}
	wantCode(t, <-done, actions.Unavailable)
}

func TestGroupEndsWithTheWorker(t *testing.T) {
	for name, end := range map[string]func(*worker.Worker){
		"close": func(w *worker.Worker) { _ = w.Close() },
		"kill":  func(w *worker.Worker) { _ = syscall.Kill(w.PID(), syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, config())
			pid := grandchild(t, w, workertest.Args{Grandchild: true})
			end(w)
			wantDone(t, w)
			eventually(t, "the grandchild ends", func() bool { return !alive(pid) })
		})
	}
}

// A process in a session of its own survives, and holds the pipes: nobody waits for it.
func TestOrphanHoldsThePipes(t *testing.T) {
	w := start(t, config())
	pid := grandchild(t, w, workertest.Args{Orphan: true})
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	_, err := w.Call(t.Context(), actions.Request{Args: workertest.Args{Stderr: 1, Exit: 1}.JSON()})
	if e := wantCode(t, err, actions.Unavailable); len(e.Logs) != 1 {
		t.Errorf("got lines %v", e.Logs)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if !alive(pid) {
		t.Error("the orphan has ended, and this test shows nothing")
	}
}

func grandchild(t *testing.T, w *worker.Worker, args workertest.Args) int {
	t.Helper()
	var pid int
	if err := json.Unmarshal(call(t, w, args).Data, &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive reports whether a process runs, a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
