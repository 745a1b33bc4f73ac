package jobs_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, ready, begin := t.TempDir(), make(chan struct{}), make(chan struct{})
		e := &engine{hold: ready, call: func(_ context.Context, _ actions.Request, output func(actions.LogLine)) (actions.Response, error) {
			output(actions.LogLine{Stream: actions.Stdout, Text: "hello"})
			output(actions.LogLine{Stream: actions.Stderr, Text: "deepfn-progress: 50% half"})
			<-begin
			return jsonResponse(`{"accuracy":0.5}`), nil
		}}
		s := open(t, jobs.Config{Dir: dir, Start: e.start})
		made, err := s.Submit(t.Context(), train("m"), json.RawMessage(`{"epochs": 3, "tag": "<b>"}`))
		if err != nil {
			t.Fatal(err)
		}
		job := made
		if job.State != actions.JobQueued || string(job.Args) != `{"epochs":3,"tag":"<b>"}` || job.Verb != actions.Train || len(job.ID) != 32 {
			t.Errorf("Submit returned %+v", job)
		}
		synctest.Wait()
		if job = get(t, s, job.ID); job.State != actions.JobQueued || !job.Started.IsZero() {
			t.Errorf("while the worker starts: %+v", job)
		}
		time.Sleep(time.Minute)
		close(ready)
		synctest.Wait()
		job = get(t, s, job.ID)
		if job.State != actions.JobRunning || job.Started.Sub(job.Created) < time.Minute || job.Progress == nil || job.Progress.Fraction != 0.5 || job.Progress.Text != "half" {
			t.Errorf("while it runs: %+v %+v", job, job.Progress)
		}
		if got, want := logs(t, s, job.ID), "hello\ndeepfn-progress: 50% half\n"; got != want {
			t.Errorf("while it runs the log is %q, want %q", got, want)
		}
		time.Sleep(time.Hour)
		close(begin)
		synctest.Wait()
		job = get(t, s, job.ID)
		if job.State != actions.JobDone || string(job.Result) != `{"accuracy":0.5}` || job.Finished.Sub(job.Started) < time.Hour {
			t.Errorf("at the end: %+v", job)
		}
		if e.living() != 0 || e.closed != 1 {
			t.Errorf("%d instances live, %d were closed", e.living(), e.closed)
		}
		closeJobs(t, s)

		again := open(t, jobs.Config{Dir: dir, Start: e.start})
		if diff := cmp.Diff(job, get(t, again, job.ID)); diff != "" {
			t.Errorf("after a restart (-before +after):\n%s", diff)
		}
		if got, want := logs(t, again, job.ID), "hello\ndeepfn-progress: 50% half\n"; got != want {
			t.Errorf("after a restart the log is %q, want %q", got, want)
		}
		wantFiles := []string{job.ID, job.ID + "/job.json", job.ID + "/lock", job.ID + "/log", job.ID + "/result"}
		if diff := cmp.Diff(wantFiles, files(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	})
}

func TestRequestIsKept(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB and more than one write
	request := func() actions.Request {
		return actions.Request{
			Model: "m", Verb: actions.Train, ID: "activation", Accept: "image/*;q=0.5",
			Args: json.RawMessage(` {"a": 1,  "a": 2.50}`),
			Texts: []actions.Text{
				{Origin: actions.FromHeader, Name: "X-Latin", Value: "caf\xe9"},
				{Origin: actions.FromContext, Name: "__OW_API_KEY", Value: "k"},
			},
			Files: []actions.File{
				{Name: "data", Filename: "../\xff.png", ContentType: "image/png", Data: []byte(big + "x")},
				{Name: "data", Data: []byte{}},
				{Name: "data", Filename: "two", Data: []byte("2")},
			},
		}
	}
	synctest.Test(t, func(t *testing.T) {
		dir, ready := t.TempDir(), make(chan struct{})
		var got actions.Request
		e := &engine{hold: ready, call: func(_ context.Context, req actions.Request, _ func(actions.LogLine)) (actions.Response, error) {
			got = req
			got.Args, got.Files = slices.Clone(req.Args), slices.Clone(req.Files)
			for i := range got.Files {
				got.Files[i].Data = slices.Clone(req.Files[i].Data)
				clear(req.Files[i].Data) // a worker may write there
			}
			for _, name := range files(t, dir) {
				if strings.Contains(name, "request") {
					t.Errorf("during the call there is still %s", name)
				}
			}
			return jsonResponse(`null`), nil
		}}
		s := open(t, jobs.Config{Dir: dir, Start: e.start})
		req := request()
		job := submit(t, s, req)
		for _, file := range req.Files {
			clear(file.Data)
		}
		clear(req.Args)
		close(ready)
		synctest.Wait()
		asText := cmp.Transformer("text", func(b []byte) string {
			if len(b) < 100 {
				return string(b)
			}
			return fmt.Sprintf("%d bytes, %x", len(b), sha256.Sum256(b))
		})
		if diff := cmp.Diff(request(), got, asText); diff != "" {
			t.Errorf("the worker got another request (-want +got):\n%s", diff)
		}
		if job = get(t, s, job.ID); job.State != actions.JobDone || string(job.Result) != "null" {
			t.Errorf("at the end: %+v", job)
		}
	})
}

func TestMaxRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := make(chan struct{})
		var order []string
		e := &engine{call: func(_ context.Context, req actions.Request, _ func(actions.LogLine)) (actions.Response, error) {
			<-next
			order = append(order, req.ID)
			return jsonResponse(`{}`), nil
		}}
		s := open(t, jobs.Config{Dir: t.TempDir(), Start: e.start, MaxRunning: 2, MaxQueued: 3})
		var ids []string
		for i := range 5 {
			req := train("m")
			req.ID = fmt.Sprint(i)
			ids = append(ids, submit(t, s, req).ID)
		}
		_, err := s.Submit(t.Context(), train("m"), nil)
		want(t, err, actions.Busy, "3 jobs wait")
		for i := range ids {
			synctest.Wait()
			list, err := s.List(t.Context(), "m")
			if err != nil || len(list) != 5 {
				t.Fatalf("List: %d jobs, %v", len(list), err)
			}
			running := 0
			for at, job := range list {
				if job.ID != ids[at] {
					t.Errorf("List: %s at %d, want %s", job.ID, at, ids[at])
				}
				if job.State == actions.JobRunning {
					running++
				}
			}
			if want := min(2, 5-i); running != want || e.living() != want {
				t.Errorf("when %d are done, %d run and %d workers live, want %d", i, running, e.living(), want)
			}
			next <- struct{}{}
			synctest.Wait()
		}
		slices.Sort(order)
		if strings.Join(order, "") != "01234" || e.most != 2 {
			t.Errorf("done: %v; at most %d at a time, want 2", order, e.most)
		}
	})
}

func TestOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		begin := make(chan struct{})
		e := &engine{hold: begin, call: func(_ context.Context, req actions.Request, _ func(actions.LogLine)) (actions.Response, error) {
			order = append(order, req.ID)
			return jsonResponse(`{}`), nil
		}}
		s := open(t, jobs.Config{Dir: t.TempDir(), Start: e.start})
		for _, id := range []string{"a", "b", "c", "d"} {
			req := train("m")
			req.ID = id
			submit(t, s, req)
		}
		close(begin)
		synctest.Wait()
		if got := strings.Join(order, ""); got != "abcd" {
			t.Errorf("they ran in the order %s", got)
		}
	})
}

func TestOutcomes(t *testing.T) {
	long := `"` + strings.Repeat("x", 1<<20) + `"`
	died := actions.Errorf(actions.Unavailable, "worker: the process ended: signal: killed")
	tests := map[string]struct {
		start, err error
		resp       actions.Response
		state      actions.JobState
		msg        string // a part of the error
		result     string
		listed     string // the result in a list, if it is another one
		log        string
	}{
		"json":           {resp: jsonResponse(`[1, 2]`), state: actions.JobDone, result: `[1, 2]`},
		"json, charset":  {resp: actions.Response{ContentType: "application/json; charset=utf-8", Data: []byte(`1`)}, state: actions.JobDone, result: `1`},
		"json, no type":  {resp: actions.Response{Data: []byte(`1`)}, state: actions.JobDone, result: `1`},
		"no json inside": {resp: jsonResponse(`{"n":`), state: actions.JobDone, result: `{"content_type":"application/json","filename":"","size":5}`},
		"nothing":        {resp: actions.Response{}, state: actions.JobDone, result: `{"content_type":"","filename":"","size":0}`},
		"file": {
			resp:  actions.Response{ContentType: "image/png", Filename: "a.png", Data: []byte("\x89PNG")},
			state: actions.JobDone, result: `{"content_type":"image/png","filename":"a.png","size":4}`,
		},
		"long json": {
			resp: jsonResponse(long), state: actions.JobDone, result: long,
			listed: `{"content_type":"application/json","filename":"","size":1048578}`,
		},
		"too long": {resp: jsonResponse(long + "       "), state: actions.JobFailed, msg: "1048585 bytes, the limit is 1048580"},
		"logs of the answer": {
			resp:  actions.Response{Data: []byte(`1`), Logs: []actions.LogLine{{Stream: actions.Stdout, Text: "said"}}},
			state: actions.JobDone, result: `1`, log: "said\n",
		},
		"model": {err: actions.Errorf(actions.Failed, "ValueError: no"), state: actions.JobFailed, msg: "ValueError: no"},
		"plain": {err: errors.New("broken"), state: actions.JobFailed, msg: "broken"},
		"arguments": {
			err:   &actions.Error{Code: actions.Invalid, Msg: "invalid arguments", Fields: map[string][]string{"epochs": {"Not a number."}}},
			state: actions.JobFailed, msg: `invalid arguments: {"epochs":["Not a number."]}`,
		},
		"died": {err: died, state: actions.JobFailed, msg: "the worker ended before it had answered: worker: the process ended: signal: killed (perhaps for want of memory)"},
		"exit": {err: actions.Errorf(actions.Unavailable, "worker: the process ended: exit status 3"), state: actions.JobFailed, msg: "exit status 3"},
		"start": {
			start: &actions.Error{Code: actions.Failed, Msg: "ImportError", Logs: []actions.LogLine{{Text: "Traceback"}}},
			state: actions.JobFailed, msg: "the worker did not start: ImportError", log: "Traceback\n",
		},
		"long message": {err: errors.New(strings.Repeat("é", 1<<20)), state: actions.JobFailed, msg: "é"},
		"not UTF-8":    {err: errors.New("a\xffb"), state: actions.JobFailed, msg: "a\uFFFDb"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &engine{startErr: test.start, call: func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
					return test.resp, test.err
				}}
				cfg := jobs.Config{Dir: t.TempDir(), Start: e.start, MaxResult: 1<<20 + 4}
				s := open(t, cfg)
				id := submit(t, s, train("m")).ID
				synctest.Wait()
				check := func(s *jobs.Jobs) {
					t.Helper()
					job := get(t, s, id)
					if job.State != test.state || !strings.Contains(job.Error, test.msg) || (test.msg == "") != (job.Error == "") || len(job.Error) > 64<<10 {
						t.Errorf("got %s %.200q, want %s %q", job.State, job.Error, test.state, test.msg)
					}
					if string(job.Result) != test.result {
						t.Errorf("got the result %.200s, want %.200s", job.Result, test.result)
					}
					list, err := s.List(t.Context(), "m")
					if err != nil || len(list) != 1 {
						t.Fatalf("List: %v, %v", list, err)
					}
					if test.listed == "" {
						test.listed = test.result
					}
					if string(list[0].Result) != test.listed {
						t.Errorf("got the result %.200s in a list, want %.200s", list[0].Result, test.listed)
					}
					if got := logs(t, s, id); got != test.log {
						t.Errorf("got the log %q, want %q", got, test.log)
					}
					resp, err := s.Result(t.Context(), "m", id)
					if test.state != actions.JobDone {
						want(t, err, actions.Conflict, "no result")
						return
					}
					test.resp.Logs = nil
					if diff := cmp.Diff(test.resp, resp, cmp.Transformer("text", func(b []byte) string { return string(b) })); err != nil || diff != "" {
						t.Errorf("Result: %v\n%s", err, diff)
					}
				}
				check(s)
				closeJobs(t, s)
				check(open(t, cfg))
				if e.living() != 0 {
					t.Errorf("%d workers live", e.living())
				}
			})
		})
	}
}

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, jobs.Config{Dir: dir, Start: (&engine{}).start, Keep: 2})
		other := submit(t, s, train("other")).ID
		var ids []string
		for range 5 {
			ids = append(ids, submit(t, s, train("m")).ID)
		}
		synctest.Wait()
		checkList(t, s, "m", ids[3:])
		checkList(t, s, "other", []string{other})
		closeJobs(t, s)
		time.Sleep(time.Second)

		s = open(t, jobs.Config{Dir: dir, Start: (&engine{}).start, Keep: -1})
		ids = append(ids, submit(t, s, train("m")).ID)
		synctest.Wait()
		checkList(t, s, "m", ids[3:])
		closeJobs(t, s)

		s = open(t, jobs.Config{Dir: dir, Start: (&engine{}).start, Keep: 1})
		checkList(t, s, "m", ids[5:])
		checkList(t, s, "other", []string{other})
	})
}

func TestManyCallers(t *testing.T) {
	e := &engine{call: func(_ context.Context, req actions.Request, output func(actions.LogLine)) (actions.Response, error) {
		var printing sync.WaitGroup
		for range 2 {
			printing.Go(func() {
				for i := range 20 {
					output(actions.LogLine{Stream: actions.Stderr, Text: fmt.Sprintf("deepfn-progress: %d%%", i)})
					output(actions.LogLine{Stream: actions.Stdout, Text: "line"})
				}
			})
		}
		printing.Wait()
		return jsonResponse(`{}`), nil
	}}
	dir := t.TempDir()
	s := open(t, jobs.Config{Dir: dir, Start: e.start, MaxRunning: 3, Keep: 5})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range 3 {
				job, err := s.Submit(t.Context(), train("m"), nil)
				if err != nil {
					t.Errorf("Submit: %v", err)
					return
				}
				if _, err := s.List(t.Context(), "m"); err != nil {
					t.Errorf("List: %v", err)
				}
				_, err = s.Logs(t.Context(), "m", job.ID)
				checkGone(t, err)
				_, err = s.Job(t.Context(), "m", job.ID)
				checkGone(t, err)
				if i%2 == 0 {
					_, err = s.Cancel(t.Context(), "m", job.ID)
					checkGone(t, err)
				}
			}
		})
	}
	callers.Wait()
	closeJobs(t, s)
	if e.living() != 0 {
		t.Errorf("%d workers live", e.living())
	}
	for _, name := range files(t, dir) {
		if strings.Contains(name, "request") || strings.HasSuffix(name, ".new") || strings.Contains(name, "-") {
			t.Errorf("left over: %s", name)
		}
	}
}

// checkGone fails the test if err says something else than that the job was removed, as
// those are that are too many.
func checkGone(tb testing.TB, err error) {
	tb.Helper()
	if err != nil && actions.CodeOf(err) != actions.NotFound {
		tb.Errorf("got %v, want nothing or that it is not found", err)
	}
}
