package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// steps is how much a job of resumingServer has to do.
const steps = 3

// resumingServer has one job, which it submits unless there is one, and ends when that is done.
// The job notes its steps in a file beside the folder, and does none again.
func resumingServer(dir, at string) {
	kill, err := strconv.Atoi(at)
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	e := &engine{call: func(_ context.Context, req actions.Request, line func(actions.LogLine)) (actions.Response, error) {
		defer close(done)
		if string(req.Args) != `{"n":1}` || string(req.Files[0].Data) != "data" {
			return actions.Response{}, fmt.Errorf("the request is %+v", req)
		}
		for {
			notes, _ := os.ReadFile(dir + ".steps")
			if len(notes) == steps {
				return jsonResponse(`{"steps":3}`), nil
			}
			line(stdout(fmt.Sprintf("step %d", len(notes))))
			if err := os.WriteFile(dir+".steps", append(notes, 'x'), 0o600); err != nil {
				return actions.Response{}, err
			}
		}
	}}
	s, err := jobs.OpenKilled(jobs.Config{Dir: dir, Start: e.start, Resume: true}, kill)
	if err != nil {
		panic(err)
	}
	list, err := s.List(context.Background(), "m")
	if err == nil && len(list) == 0 {
		_, err = s.Submit(context.Background(), resumable(), nil)
	}
	if err != nil {
		panic(err)
	}
	if len(list) == 0 || !list[0].State.Final() {
		<-done
	}
	if err := s.Close(context.Background()); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func resumable() actions.Request {
	req := train("m")
	req.Args = []byte(`{"n":1}`)
	req.Files = []actions.File{{Name: "f", Data: []byte("data")}}
	return req
}

// live runs a server that is killed at one of the files that it makes; false if it was not.
func live(t *testing.T, dir string, kill int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serverDir+"="+dir, serverKill+"="+strconv.Itoa(kill), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	if err == nil {
		return false
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if status, unix := exit.Sys().(syscall.WaitStatus); !ok || !unix || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the server ended by itself: %v", err)
	}
	return true
}

// TestKilledAtEveryStep kills servers before each file that they make, and the next one too.
func TestKilledAtEveryStep(t *testing.T) {
	killed := 0
	for at := 1; ; at++ {
		dir := filepath.Join(t.TempDir(), "jobs")
		if !live(t, dir, at) {
			break
		}
		killed++
		before, _ := filepath.Glob(filepath.Join(dir, strings.Repeat("?", 32)))
		if live(t, dir, 1+at%4) && live(t, dir, 0) {
			t.Fatalf("killed at %d: a server was killed that should not be", at)
		}
		s := open(t, jobs.Config{Dir: dir, Start: (&engine{}).start, Resume: true})
		list, err := s.List(t.Context(), "m")
		if err != nil || len(list) != 1 {
			t.Fatalf("killed at %d: %+v, %v", at, list, err)
		}
		job := list[0]
		if job.State != actions.JobDone || string(job.Result) != `{"steps":3}` || job.Attempts < 1 {
			t.Errorf("killed at %d: got %+v", at, job)
		}
		if len(before) == 1 && filepath.Base(before[0]) != job.ID {
			t.Errorf("killed at %d: the job is another one", at)
		}
		log := logs(t, s, job.ID)
		last := -1
		for step := range steps {
			at := strings.Index(log, fmt.Sprintf("step %d\n", step))
			if at <= last {
				t.Errorf("killed at %d: got the log %q", at, log)
			}
			last = at
		}
		for _, name := range files(t, dir) {
			if strings.Contains(name, "request") || strings.Contains(name, "-") || strings.HasSuffix(name, ".new") {
				t.Errorf("killed at %d: left over: %s", at, name)
			}
		}
		closeJobs(t, s)
	}
	if killed < 6 { // two of the request, the record three times, the log, the result
		t.Errorf("the servers were killed at %d steps", killed)
	}
}
