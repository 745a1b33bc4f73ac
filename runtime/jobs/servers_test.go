package jobs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// startServer starts a server in a process of its own and returns the ids of its jobs.
func startServer(t *testing.T, dir string) (*exec.Cmd, []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serverDir+"="+dir, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said %q: %v", line, err)
	}
	return cmd, strings.Fields(line)
}

func TestKilledServer(t *testing.T) {
	dir := t.TempDir()
	cmd, ids := startServer(t, dir)
	done, running, queued := ids[0], ids[1], ids[2]
	// What a server leaves behind that is killed while it makes or removes a folder.
	for _, name := range []string{"new-" + strings.Repeat("1", 32), "gone-" + strings.Repeat("2", 32)} {
		if err := os.MkdirAll(filepath.Join(dir, name, "request"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := open(t, jobs.Config{Dir: dir, Start: (&engine{}).start})
	checkStates(t, before, map[string]actions.JobState{
		done: actions.JobDone, running: actions.JobRunning, queued: actions.JobQueued,
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	interrupted := map[string]actions.JobState{
		done: actions.JobDone, running: actions.JobInterrupted, queued: actions.JobInterrupted,
	}
	checkStates(t, before, interrupted) // who was there
	closeJobs(t, before)
	after := open(t, jobs.Config{Dir: dir, Start: (&engine{}).start})
	checkStates(t, after, interrupted) // who comes later
	if job := get(t, after, done); string(job.Result) != `{"n":1}` {
		t.Errorf("the result is %s", job.Result)
	}
	if job := get(t, after, running); job.Error != "the server ended while the job ran" || job.Finished.Before(job.Created) {
		t.Errorf("got %+v", job)
	}
	for _, name := range files(t, dir) {
		if strings.Contains(name, "request") || strings.Contains(name, "-") {
			t.Errorf("left over: %s", name)
		}
	}
	for _, id := range ids {
		if job, err := after.Cancel(t.Context(), "m", id); err != nil || job.State != interrupted[id] {
			t.Errorf("Cancel: %+v, %v", job, err)
		}
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func checkStates(t *testing.T, s *jobs.Jobs, want map[string]actions.JobState) {
	t.Helper()
	list, err := s.List(t.Context(), "m")
	if err != nil || len(list) != len(want) {
		t.Errorf("List: %v, %v", list, err)
	}
	for _, job := range list {
		if job.State != want[job.ID] {
			t.Errorf("job %s is %s, want %s", job.ID, job.State, want[job.ID])
		}
	}
}

func TestStoppedServer(t *testing.T) {
	dir := t.TempDir()
	cmd, ids := startServer(t, dir)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, jobs.Config{Dir: dir, Start: (&engine{}).start})
		began := time.Now()
		_, err := s.Cancel(t.Context(), "m", ids[1])
		want(t, err, actions.Unavailable, "another server")
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if state := get(t, s, ids[1]).State; state != actions.JobRunning {
			t.Errorf("it is %s, want running", state)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Cancel(ctx, "m", ids[1])
		want(t, err, actions.Deadline, "is being cancelled")
		job, err := s.Cancel(t.Context(), "m", ids[0])
		if err != nil || job.State != actions.JobDone {
			t.Errorf("Cancel of one that is done: %+v, %v", job, err)
		}
	})
}

func TestTwoServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		e := &engine{call: func(ctx context.Context, req actions.Request, output func(actions.LogLine)) (actions.Response, error) {
			output(actions.LogLine{Stream: actions.Stdout, Text: "working"})
			output(actions.LogLine{Stream: actions.Stdout, Text: "deepfn-progress: 0.25 quarter"})
			return untilCancelled(ctx, req, output)
		}}
		first := open(t, jobs.Config{Dir: dir, Start: e.start})
		running, queued := submit(t, first, train("m")).ID, submit(t, first, train("m")).ID
		synctest.Wait()
		second := open(t, jobs.Config{Dir: dir, Start: e.start, Keep: 1})
		own := submit(t, second, train("m")).ID
		synctest.Wait()
		for _, s := range []*jobs.Jobs{first, second} {
			checkStates(t, s, map[string]actions.JobState{
				running: actions.JobRunning, queued: actions.JobQueued, own: actions.JobRunning,
			})
		}
		if got := logs(t, second, running); got != "working\n" {
			t.Errorf("the other's log is %q", got)
		}
		if p := get(t, second, running).Progress; p != nil {
			t.Errorf("the progress is on disk already: %+v", p)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p := get(t, second, running).Progress; p == nil || p.Fraction != 0.25 || p.Text != "quarter" {
			t.Errorf("the other's progress is %+v", p)
		}
		for _, id := range []string{queued, running} {
			began := time.Now()
			job, err := second.Cancel(t.Context(), "m", id)
			if err != nil || job.State != actions.JobCancelled || job.ID != id || time.Since(began) > 3*time.Second {
				t.Errorf("Cancel of the other's: %+v, %v after %v", job, err, time.Since(began))
			}
			synctest.Wait() // the other one forgets it after the folder has gone
			_, err = first.Job(t.Context(), "m", id)
			want(t, err, actions.NotFound, "no such job")
		}
		checkStates(t, first, map[string]actions.JobState{own: actions.JobRunning})
		if e.living() != 1 {
			t.Errorf("%d workers live, want that of the second server", e.living())
		}
	})
}

func TestRemovedFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, begin := t.TempDir(), make(chan struct{})
		e := &engine{call: func(_ context.Context, _ actions.Request, output func(actions.LogLine)) (actions.Response, error) {
			output(actions.LogLine{Stream: actions.Stdout, Text: "deepfn-progress: 1%"})
			<-begin
			return jsonResponse(`{}`), nil
		}}
		s := open(t, jobs.Config{Dir: dir, Start: e.start})
		id, next := submit(t, s, train("m")).ID, submit(t, s, train("m")).ID
		synctest.Wait()
		if err := os.RemoveAll(filepath.Join(dir, id)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // its progress cannot be written
		if state := get(t, s, id).State; state != actions.JobRunning {
			t.Errorf("it is %s, want running as long as its worker lives", state)
		}
		close(begin)
		synctest.Wait()
		_, err := s.Job(t.Context(), "m", id)
		want(t, err, actions.NotFound, "no such job")
		if job := get(t, s, next); job.State != actions.JobDone {
			t.Errorf("the next one: %+v", job)
		}
		if names := files(t, dir); len(names) != 5 { // the folder of next, its record, lock, log and result
			t.Errorf("files: %v", names)
		}
	})
}

// TestHostileFolder has all that others may have left in a folder of jobs.
func TestHostileFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		e := &engine{call: func(context.Context, actions.Request, func(actions.LogLine)) (actions.Response, error) {
			return jsonResponse(`{"n":1}`), nil
		}}
		s := open(t, jobs.Config{Dir: dir, Start: e.start})
		good := submit(t, s, train("m")).ID
		synctest.Wait()
		closeJobs(t, s)
		record, err := os.ReadFile(filepath.Join(dir, good, "job.json"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		plant := func(edit func(folder string, record []byte) []byte) {
			n++
			id := strings.Repeat("0", 30) + string("0123456789abcdef"[n/16]) + string("0123456789abcdef"[n%16])
			folder := filepath.Join(dir, id)
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if data := edit(folder, bytes.ReplaceAll(record, []byte(good), []byte(id))); data != nil {
				if err := os.WriteFile(filepath.Join(folder, "job.json"), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		replace := func(old, with string) {
			if !bytes.Contains(record, []byte(old)) {
				t.Fatalf("there is no %s in %s", old, record)
			}
			plant(func(_ string, r []byte) []byte { return bytes.Replace(r, []byte(old), []byte(with), 1) })
		}
		plant(func(string, []byte) []byte { return nil })
		plant(func(string, []byte) []byte { return []byte{} })
		plant(func(_ string, r []byte) []byte { return r[:len(r)/2] })
		plant(func(_ string, r []byte) []byte { return make([]byte, len(r)) })
		plant(func(string, []byte) []byte { return []byte(`[]`) })
		plant(func(string, []byte) []byte { return bytes.Repeat([]byte{' '}, 17<<20) })
		plant(func(string, []byte) []byte { return record }) // of another id
		replace(`"version":1`, `"version":2`)
		replace(`"version":1`, `"version":"1"`)
		replace(`"state":"done"`, `"state":"finished"`)
		replace(`"state":"done"`, `"state":"error"`) // with a result
		replace(`"size":7`, `"size":-7`)
		replace(`"args":{}`, `"args":[]`)
		replace(`"args":{}`, `"result":{},"args":{}`)
		replace(`"args":{}`, `"args":{},"progress":{"fraction":2,"time":"2026-01-02T03:04:05Z"}`)
		replace(`"model":"m"`, `"model":""`)
		plant(func(folder string, _ []byte) []byte {
			_ = os.Mkdir(filepath.Join(folder, "job.json"), 0o700)
			return nil
		})
		plant(func(folder string, _ []byte) []byte {
			_ = syscall.Mkfifo(filepath.Join(folder, "job.json"), 0o600)
			return nil
		})
		outside := filepath.Join(t.TempDir(), "job.json")
		_ = os.WriteFile(outside, record, 0o600)
		plant(func(folder string, _ []byte) []byte {
			_ = os.Symlink(outside, filepath.Join(folder, "job.json"))
			return nil
		})
		_ = os.Symlink(filepath.Dir(outside), filepath.Join(dir, strings.Repeat("e", 32)))
		_ = os.WriteFile(filepath.Join(dir, strings.Repeat("f", 32)), record, 0o600)
		_ = os.Mkdir(filepath.Join(dir, "notes"), 0o700)

		var log bytes.Buffer
		s = open(t, jobs.Config{Dir: dir, Start: e.start, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			checkList(t, s, "m", []string{good})
		}
		if got := strings.Count(log.String(), "job record skipped"); got != n {
			t.Errorf("%d records were logged, want %d, each once:\n%s", got, n, log.String())
		}
		_, err = s.Job(t.Context(), "m", strings.Repeat("0", 30)+"05")
		want(t, err, actions.NotFound, "no such job")

		// A result that was damaged is not taken for one.
		for _, data := range []string{`{"n":`, `{"n":1]`, `{"n":1} `} {
			_ = os.WriteFile(filepath.Join(dir, good, "result"), []byte(data), 0o600)
			job := get(t, s, good)
			if job.State != actions.JobFailed || !strings.Contains(job.Error, "the result cannot be read") || job.Result != nil {
				t.Errorf("with the result %s: %+v", data, job)
			}
			if _, err := json.Marshal(job); err != nil {
				t.Error(err)
			}
		}
		next := submit(t, s, train("m")).ID
		synctest.Wait()
		if job := get(t, s, next); job.State != actions.JobDone {
			t.Errorf("a job beside all that: %+v", job)
		}
	})
}
