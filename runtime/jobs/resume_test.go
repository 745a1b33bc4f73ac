package jobs_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// stopAtFirst is a call that prints its attempt, and ends only from the second one on.
func stopAtFirst(attempts map[string]int) func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
	return func(ctx context.Context, req actions.Request, line func(actions.LogLine)) (actions.Response, error) {
		attempts[req.ID]++
		if attempts[req.ID] > 1 {
			line(stdout("second"))
			return jsonResponse(`{}`), nil
		}
		line(stdout("first"))
		return untilCancelled(ctx, req, line)
	}
}

func TestResumeAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := map[string]int{}
		cfg := jobs.Config{Dir: t.TempDir(), Start: (&engine{call: stopAtFirst(attempts)}).start, Resume: true}
		first := open(t, cfg)
		var made []actions.Job
		for _, id := range []string{"a", "b", "c"} {
			req := train("m")
			req.ID, req.Args = id, json.RawMessage(`{"n":1}`)
			made = append(made, submit(t, first, req))
		}
		synctest.Wait()
		started := get(t, first, made[0].ID).Started
		time.Sleep(time.Minute)
		closeJobs(t, first)

		var order []string
		e := &engine{call: func(ctx context.Context, req actions.Request, line func(actions.LogLine)) (actions.Response, error) {
			order = append(order, req.ID+string(req.Args))
			attempts[req.ID] = 1
			return stopAtFirst(attempts)(ctx, req, line)
		}}
		cfg.Start = e.start
		second := open(t, cfg)
		synctest.Wait()
		if diff := cmp.Diff([]string{`a{"n":1}`, `b{"n":1}`, `c{"n":1}`}, order); diff != "" {
			t.Errorf("the order (-want +got):\n%s", diff)
		}
		job := get(t, second, made[0].ID)
		if job.State != actions.JobDone || job.Attempts != 2 || !job.Created.Equal(made[0].Created) || !job.Started.Equal(started) {
			t.Errorf("got %+v", job)
		}
		if got := logs(t, second, job.ID); got != "first\nsecond\n" {
			t.Errorf("got the log %q", got)
		}
		if job := get(t, second, made[2].ID); job.State != actions.JobDone || job.Attempts != 1 {
			t.Errorf("one that had waited: %+v", job)
		}
		for _, name := range files(t, cfg.Dir) {
			if strings.Contains(name, "request") {
				t.Errorf("left over: %s", name)
			}
		}
	})
}

// TestResumeByOther has two servers find the jobs of a third one that ends.
func TestResumeByOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, attempts := t.TempDir(), map[string]int{}
		cfg := func(e *engine) jobs.Config { return jobs.Config{Dir: dir, Start: e.start, Resume: true} }
		first := open(t, cfg(&engine{call: stopAtFirst(attempts)}))
		var ids []string
		for _, id := range []string{"a", "b", "c", "d"} {
			req := train("m")
			req.ID = id
			ids = append(ids, submit(t, first, req).ID)
		}
		synctest.Wait()
		others := []*engine{{call: untilCancelled}, {call: untilCancelled}}
		servers := []*jobs.Jobs{open(t, cfg(others[0])), open(t, cfg(others[1]))}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(others[0].starts) + len(others[1].starts); n != 0 {
			t.Fatalf("%d jobs of a server that lives were taken", n)
		}
		closeJobs(t, first)
		for _, s := range servers {
			for _, id := range ids {
				if state := get(t, s, id).State; state != actions.JobQueued {
					t.Errorf("before anybody has it, it is %s, want queued", state)
				}
			}
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		// They share the jobs, and nobody has one twice.
		started := slices.Concat(others[0].starts, others[1].starts)
		slices.Sort(started)
		if n := len(slices.Compact(started)); n != len(started) || n == 0 || len(others[0].starts) > 1 || len(others[1].starts) > 1 {
			t.Errorf("started: %v and %v", others[0].starts, others[1].starts)
		}
		for _, id := range ids { // each server can cancel each
			for _, s := range servers {
				if job, err := s.Cancel(t.Context(), "m", id); err == nil && job.State != actions.JobCancelled {
					t.Errorf("Cancel: %+v", job)
				}
			}
		}
		synctest.Wait()
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestCancelOfALost cancels a job that nobody has, and has one removed that was to end.
func TestCancelOfALost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := jobs.Config{Dir: t.TempDir(), Start: (&engine{call: untilCancelled}).start, Resume: true}
		first := open(t, cfg)
		running, queued := submit(t, first, train("m")).ID, submit(t, first, train("m")).ID
		synctest.Wait()
		closeJobs(t, first)

		e := &engine{}
		cfg.Start = e.start
		cfg.Knows = func(model string) bool { return model == "other" }
		second := open(t, cfg)
		time.Sleep(time.Minute)
		synctest.Wait()
		checkStates(t, second, map[string]actions.JobState{running: actions.JobQueued, queued: actions.JobQueued})
		began := time.Now()
		if job, err := second.Cancel(t.Context(), "m", running); err != nil || job.State != actions.JobCancelled || job.Finished.IsZero() || time.Since(began) > 0 {
			t.Errorf("Cancel: %+v, %v after %v", job, err, time.Since(began))
		}
		closeJobs(t, second)
		if err := os.WriteFile(filepath.Join(cfg.Dir, queued, "cancel"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Knows = nil
		third := open(t, cfg)
		synctest.Wait()
		_, err := third.Job(t.Context(), "m", queued)
		want(t, err, actions.NotFound, "no such job")
		if len(e.starts) > 0 || len(files(t, cfg.Dir)) > 0 {
			t.Errorf("started: %v, left: %v", e.starts, files(t, cfg.Dir))
		}
	})
}

func TestCancelOfAResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := jobs.Config{Dir: t.TempDir(), Start: (&engine{call: untilCancelled}).start, Resume: true}
		first := open(t, cfg)
		id := submit(t, first, train("m")).ID
		synctest.Wait()
		closeJobs(t, first)
		second := open(t, cfg)
		synctest.Wait()
		if job := get(t, second, id); job.State != actions.JobRunning || job.Attempts != 2 {
			t.Errorf("got %+v", job)
		}
		if job, err := second.Cancel(t.Context(), "m", id); err != nil || job.State != actions.JobCancelled {
			t.Errorf("Cancel: %+v, %v", job, err)
		}
		closeJobs(t, second)
		checkList(t, open(t, cfg), "m", nil)
	})
}

// TestCloseOfOneThatIsDone has a call end well although its server ends.
func TestCloseOfOneThatIsDone(t *testing.T) {
	outcomes := map[string]struct {
		err  error
		want actions.JobState
	}{
		"done": {nil, actions.JobDone}, "failed": {actions.Errorf(actions.Unavailable, "the pool is closed"), actions.JobQueued},
	}
	for name, outcome := range outcomes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &engine{call: func(ctx context.Context, _ actions.Request, _ func(actions.LogLine)) (actions.Response, error) {
					<-ctx.Done()
					return jsonResponse(`{"n":1}`), outcome.err
				}}
				cfg := jobs.Config{Dir: t.TempDir(), Start: e.start, Resume: true}
				first := open(t, cfg)
				id := submit(t, first, train("m")).ID
				synctest.Wait()
				closeJobs(t, first)
				cfg.Knows = func(string) bool { return false }
				if job := get(t, open(t, cfg), id); job.State != outcome.want || job.Error != "" {
					t.Errorf("got %+v, want it %s", job, outcome.want)
				}
			})
		})
	}
}

func TestTornLog(t *testing.T) {
	for name, test := range map[string]struct{ left, want string }{
		"torn":     {"one\ntw", "one\nsecond\n"},
		"whole":    {"one\ntwo\n", "one\ntwo\nsecond\n"},
		"only one": {"on", "second\n"},
		"empty":    {"", "second\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := map[string]int{}
				cfg := jobs.Config{Dir: t.TempDir(), Start: (&engine{call: stopAtFirst(attempts)}).start, Resume: true}
				first := open(t, cfg)
				id := submit(t, first, train("m")).ID
				synctest.Wait()
				closeJobs(t, first)
				if err := os.WriteFile(filepath.Join(cfg.Dir, id, "log"), []byte(test.left), 0o600); err != nil {
					t.Fatal(err)
				}
				second := open(t, cfg)
				synctest.Wait()
				if got := logs(t, second, id); got != test.want {
					t.Errorf("got the log %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestReportedProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := make(chan struct{})
		start := func(ctx context.Context, job actions.Job, out jobs.Output) (jobs.Instance, error) {
			out.Progress(actions.Progress{Fraction: 0.9}) // it has not begun
			e := &engine{call: func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
				out.Line(stdout("deepfn-progress: 0.1 line"))
				out.Progress(actions.Progress{
					Fraction: 2, Rows: 10, Failed: 1, Total: 20, Chunks: 3, Redone: 1, Rate: math.Inf(1), Remaining: math.NaN(),
				})
				out.Line(stdout("deepfn-progress: 0.2 line"))
				<-begin
				return jsonResponse(`{}`), nil
			}}
			return e.start(ctx, job, out)
		}
		cfg := jobs.Config{Dir: t.TempDir(), Start: start, Resume: true}
		s := open(t, cfg)
		id := submit(t, s, train("m")).ID
		synctest.Wait()
		now := time.Now().UTC().Round(0)
		want := &actions.Progress{Fraction: 1, Rows: 10, Failed: 1, Total: 20, Chunks: 3, Redone: 1, Time: now}
		if diff := cmp.Diff(want, get(t, s, id).Progress); diff != "" {
			t.Errorf("the progress (-want +got):\n%s", diff)
		}
		time.Sleep(3 * time.Second)
		if diff := cmp.Diff(want, get(t, open(t, cfg), id).Progress); diff != "" {
			t.Errorf("on disk (-want +got):\n%s", diff)
		}
		close(begin)
		synctest.Wait()
		if job := get(t, s, id); job.State != actions.JobDone || job.Progress.Rows != 10 {
			t.Errorf("at the end: %+v", job)
		}
	})
}
