package jobs_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// stuck is a call that no context ends.
func stuck(until chan struct{}) func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
	return func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
		<-until
		return jsonResponse(`{}`), nil
	}
}

func TestCancel(t *testing.T) {
	tests := map[string]struct {
		engine *engine
		before int // jobs that keep this one waiting
		state  actions.JobState
		took   time.Duration
		living int // workers, when Cancel has returned
	}{
		"queued":          {engine: &engine{call: untilCancelled}, before: 1, state: actions.JobCancelled, living: 1},
		"starting":        {engine: &engine{}, state: actions.JobCancelled},
		"running":         {engine: &engine{call: untilCancelled}, state: actions.JobCancelled},
		"finished":        {engine: &engine{}, state: actions.JobDone},
		"failed":          {engine: &engine{startErr: errors.New("no")}, state: actions.JobFailed},
		"start goes on":   {engine: &engine{deaf: true}, state: actions.JobCancelled, took: 5 * time.Second},
		"call goes on":    {engine: &engine{}, state: actions.JobCancelled, took: 5 * time.Second},
		"close goes on":   {engine: &engine{call: untilCancelled}, state: actions.JobCancelled, took: 5 * time.Second, living: 1},
		"done, not ended": {engine: &engine{}, state: actions.JobDone, took: 5 * time.Second, living: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, dir := test.engine, t.TempDir()
				release := make(chan struct{}) // made in the bubble
				switch name {
				case "starting", "start goes on":
					e.hold = release
				case "call goes on":
					e.call = stuck(release)
				case "close goes on", "done, not ended":
					e.holdClose = release
				}
				s := open(t, jobs.Config{Dir: dir, Start: e.start})
				for range test.before {
					submit(t, s, train("m"))
				}
				id := submit(t, s, train("m")).ID
				synctest.Wait()
				began := time.Now()
				job, err := s.Cancel(t.Context(), "m", id)
				if err != nil || job.State != test.state || job.ID != id || job.Finished.IsZero() {
					t.Errorf("got %+v, %v, want it %s", job, err, test.state)
				}
				if test.state == actions.JobDone && string(job.Result) != `{"ok":true}` {
					t.Errorf("the result is %s", job.Result)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %v, want %v", took, test.took)
				}
				if e.living() != test.living {
					t.Errorf("%d workers live, want %d", e.living(), test.living)
				}
				_, err = s.Cancel(t.Context(), "m", id)
				want(t, err, actions.NotFound, "no such job")
				if list, err := s.List(t.Context(), "m"); err != nil || len(list) != test.before {
					t.Errorf("List: %v, %v", list, err)
				}
				if test.before == 0 && len(files(t, dir)) > 0 {
					t.Errorf("left: %v", files(t, dir))
				}
				// Whatever goes on keeps its place; the next job gets it then.
				next := submit(t, s, train("m")).ID
				synctest.Wait()
				if state := get(t, s, next).State; test.took > 0 && state != actions.JobQueued {
					t.Errorf("the next job is %s beside a worker that has not ended", state)
				}
				close(release)
				synctest.Wait()
				if test.took > 0 {
					if state := get(t, s, next).State; state == actions.JobQueued {
						t.Errorf("the next job is still %s", state)
					}
				}
				closeJobs(t, s)
				if e.living() != 0 {
					t.Errorf("at the end %d workers live", e.living())
				}
			})
		})
	}
}

func TestCancelEndsCallByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		start := func(context.Context, actions.Job, jobs.Output) (jobs.Instance, error) {
			return &deafInstance{closed}, nil
		}
		s := open(t, jobs.Config{Dir: t.TempDir(), Start: start})
		id := submit(t, s, train("m")).ID
		synctest.Wait()
		began := time.Now()
		if job, err := s.Cancel(t.Context(), "m", id); err != nil || job.State != actions.JobCancelled || time.Since(began) > 0 {
			t.Errorf("got %+v, %v after %v", job, err, time.Since(began))
		}
	})
}

// A deafInstance ends its call when it is closed, not before.
type deafInstance struct{ closed chan struct{} }

func (i *deafInstance) Call(context.Context, actions.Request) (actions.Response, error) {
	<-i.closed
	return actions.Response{}, errors.New("closed")
}
func (i *deafInstance) Close() error { close(i.closed); return nil }

func TestCancelByManyAndCallersWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, release := t.TempDir(), make(chan struct{})
		e := &engine{call: untilCancelled, holdClose: release}
		s := open(t, jobs.Config{Dir: dir, Start: e.start})
		id := submit(t, s, train("m")).ID
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Cancel(ctx, "m", id)
		want(t, err, actions.Deadline, "is being cancelled")
		if state := get(t, s, id).State; state != actions.JobCancelled {
			t.Errorf("it is %s, want cancelled", state)
		}
		answers := make(chan actions.Job, 3)
		for range cap(answers) {
			go func() {
				job, err := s.Cancel(t.Context(), "m", id)
				if err != nil {
					t.Errorf("Cancel: %v", err)
				}
				answers <- job
			}()
		}
		synctest.Wait()
		close(release)
		for range cap(answers) {
			if job := <-answers; job.State != actions.JobCancelled {
				t.Errorf("Cancel: %+v", job)
			}
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, release := t.TempDir(), make(chan struct{})
		e := &engine{call: untilCancelled, holdClose: release}
		cfg := jobs.Config{Dir: dir, Start: e.start}
		s := open(t, cfg)
		running, queued := submit(t, s, train("m")).ID, submit(t, s, train("m")).ID
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v, want that the time is over", err)
		}
		_, err := s.Submit(t.Context(), train("m"), nil)
		want(t, err, actions.Unavailable, "shutting down")
		other := open(t, cfg) // also while the worker still ends
		for id, msg := range map[string]string{
			running: "the server was stopped while the job ran", queued: "the server was stopped while the job waited",
		} {
			if job := get(t, other, id); job.State != actions.JobInterrupted || job.Error != msg || job.Finished.IsZero() {
				t.Errorf("got %+v, want it interrupted, %q", job, msg)
			}
		}
		close(release)
		closeJobs(t, s)
		if e.living() != 0 {
			t.Errorf("%d workers live", e.living())
		}
		_, err = s.List(t.Context(), "m")
		want(t, err, actions.Unavailable, "shutting down")
		_, err = s.Job(t.Context(), "m", running)
		want(t, err, actions.Unavailable, "shutting down")
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

// TestCloseLate shows that a context that has ended is no error where nothing is to be ended.
func TestCloseLate(t *testing.T) {
	for range 20 { // which of two reasons is seen first is chance
		s := open(t, jobs.Config{Dir: t.TempDir(), Start: (&engine{}).start})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Close(ctx); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}
