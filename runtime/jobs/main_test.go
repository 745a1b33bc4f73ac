package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

const (
	// serverDir is the variable that makes this program a server with jobs in that folder.
	serverDir = "DEEPFN_TEST_JOBS"
	// serverKill makes it one that resumes jobs, and is killed at that file that it makes.
	serverKill = "DEEPFN_TEST_JOBS_KILL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverDir); dir != "" {
		if at := os.Getenv(serverKill); at != "" {
			resumingServer(dir, at)
		}
		server(dir)
	}
	os.Exit(m.Run())
}

// server has a job that is done, one that runs and one that waits, says so with their ids,
// and waits to be killed.
func server(dir string) {
	var quick sync.WaitGroup
	quick.Add(1)
	running := make(chan struct{})
	started := false
	e := &engine{call: func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
		if !started {
			started = true
			quick.Done()
			return jsonResponse(`{"n":1}`), nil
		}
		close(running)
		select {}
	}}
	s, err := jobs.Open(jobs.Config{Dir: dir, Start: e.start})
	if err != nil {
		panic(err)
	}
	var ids []string
	for range 3 {
		job, err := s.Submit(context.Background(), actions.Request{Model: "m", Verb: actions.Train}, nil)
		if err != nil {
			panic(err)
		}
		ids = append(ids, job.ID)
	}
	<-running // thus the first is done
	fmt.Println(strings.Join(ids, " "))
	select {}
}

// An engine starts instances that do what call does.
type engine struct {
	// call answers; nil answers {"ok":true}.
	call func(ctx context.Context, req actions.Request, output func(actions.LogLine)) (actions.Response, error)
	// startErr is the error of each start; hold is what it waits for.
	startErr error
	hold     chan struct{}
	// holdClose is what each Close waits for.
	holdClose chan struct{}
	// deaf makes a start wait for hold also when its context has ended.
	deaf bool

	mu     sync.Mutex // guards everything below
	open   int
	most   int
	starts []string
	closed int
}

type instance struct {
	*engine
	jobs.Output
}

func (e *engine) start(ctx context.Context, job actions.Job, out jobs.Output) (jobs.Instance, error) {
	if e.hold != nil {
		if e.deaf {
			<-e.hold
		} else {
			select {
			case <-e.hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	if e.startErr != nil {
		return nil, e.startErr
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open++
	e.most = max(e.most, e.open)
	e.starts = append(e.starts, job.ID)
	return &instance{e, out}, nil
}

func (i *instance) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if i.call == nil {
		return jsonResponse(`{"ok":true}`), nil
	}
	return i.call(ctx, req, i.Line)
}

func (i *instance) Close() error {
	if i.holdClose != nil {
		<-i.holdClose
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open--
	i.closed++
	return nil
}

// living is how many instances were started and not closed.
func (e *engine) living() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open
}

func jsonResponse(data string) actions.Response {
	return actions.Response{ContentType: "application/json", Data: []byte(data)}
}

// untilCancelled is a call that goes on until its context ends.
func untilCancelled(ctx context.Context, _ actions.Request, _ func(actions.LogLine)) (actions.Response, error) {
	<-ctx.Done()
	return actions.Response{}, actions.Errorf(actions.Canceled, "the call: %w", ctx.Err())
}

// open opens jobs that are closed with the test.
func open(tb testing.TB, cfg jobs.Config) *jobs.Jobs {
	tb.Helper()
	s, err := jobs.Open(cfg)
	if err != nil {
		tb.Fatalf("Open: %v", err)
	}
	tb.Cleanup(func() { closeJobs(tb, s) })
	return s
}

func closeJobs(tb testing.TB, s *jobs.Jobs) {
	tb.Helper()
	if err := s.Close(context.Background()); err != nil && !errors.Is(err, os.ErrClosed) {
		tb.Errorf("Close: %v", err)
	}
}

func train(model string) actions.Request {
	return actions.Request{Model: model, Verb: actions.Train}
}

func submit(tb testing.TB, s *jobs.Jobs, req actions.Request) actions.Job {
	tb.Helper()
	job, err := s.Submit(tb.Context(), req, nil)
	if err != nil {
		tb.Fatalf("Submit: %v", err)
	}
	return job
}

func get(tb testing.TB, s *jobs.Jobs, id string) actions.Job {
	tb.Helper()
	job, err := s.Job(tb.Context(), "m", id)
	if err != nil {
		tb.Fatalf("Job: %v", err)
	}
	return job
}

func logs(tb testing.TB, s *jobs.Jobs, id string) string {
	tb.Helper()
	data, err := s.Logs(tb.Context(), "m", id)
	if err != nil {
		tb.Fatalf("Logs: %v", err)
	}
	return string(data)
}

// want fails the test unless err has that code and its message the words.
func want(tb testing.TB, err error, code actions.Code, words string) {
	tb.Helper()
	if actions.CodeOf(err) != code || (err != nil && !strings.Contains(err.Error(), words)) {
		tb.Errorf("got the error %q %v, want %q with %q", actions.CodeOf(err), err, code, words)
	}
}

// files lists what is in a folder of jobs, without the lock that is always there.
func files(tb testing.TB, dir string) []string {
	tb.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if name != "." && name != ".lock" {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func checkList(tb testing.TB, s *jobs.Jobs, model string, want []string) {
	tb.Helper()
	list, err := s.List(tb.Context(), model)
	if err != nil {
		tb.Fatalf("List: %v", err)
	}
	var got []string
	for _, job := range list {
		got = append(got, job.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("jobs of %s (-want +got):\n%s", model, diff)
	}
}
