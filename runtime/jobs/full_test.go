package jobs

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A fullDisk has no space for files of some names: they are /dev/full, which says so.
type fullDisk struct {
	mu    sync.Mutex // guards names
	names []string
}

func (d *fullDisk) set(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = names
}

func (d *fullDisk) create(root *os.Root, name string) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	base, _, _ := strings.Cut(path.Base(name), ".new")
	if slices.Contains(d.names, base) {
		return os.OpenFile("/dev/full", os.O_WRONLY, 0)
	}
	return createFile(root, name)
}

// OpenKilled is Open in a process that is killed when it is about to make its file number at,
// from 1; 0 means never.
func OpenKilled(cfg Config, at int) (*Jobs, error) {
	var mu sync.Mutex
	made := 0
	return open(cfg, func(root *os.Root, name string) (*os.File, error) {
		mu.Lock()
		defer mu.Unlock()
		if made++; made == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return createFile(root, name)
	})
}

type talker struct{ output func(actions.LogLine) }

func (w talker) Call(context.Context, actions.Request) (actions.Response, error) {
	w.output(actions.LogLine{Stream: actions.Stdout, Text: "hello"})
	return actions.Response{ContentType: "application/json", Data: []byte(`{"n":1}`)}, nil
}

func (w talker) Close() error { return nil }

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, disk := t.TempDir(), &fullDisk{}
		cfg := Config{Dir: dir, Start: func(_ context.Context, _ actions.Job, out Output) (Instance, error) {
			return talker{out.Line}, nil
		}}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.store.create = disk.create
		req := actions.Request{Model: "m", Files: []actions.File{{Name: "f", Data: []byte("x")}}}

		for _, name := range []string{"0", "request.gob", "job.json"} {
			disk.set(name)
			_, err := s.Submit(t.Context(), req, nil)
			if actions.CodeOf(err) != actions.Unavailable || err.Error() != "the job cannot be recorded: no space left on device" {
				t.Errorf("without space for %s: %v", name, err)
			}
			left, _ := filepath.Glob(dir + "/*-*") // new- or gone-
			if ids, err := s.store.ids(); err != nil || len(left)+len(ids) > 0 {
				t.Errorf("without space for %s it left %v %v, %v", name, left, ids, err)
			}
		}
		tests := map[string]struct {
			state actions.JobState
			msg   string
			log   string
		}{
			"log":    {actions.JobDone, "", ""},
			"result": {actions.JobFailed, "the result cannot be kept: no space left on device", "hello\n"},
		}
		for name, test := range tests {
			disk.set(name)
			made, err := s.Submit(t.Context(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			job, err := s.Job(t.Context(), "m", made.ID)
			if err != nil || job.State != test.state || job.Error != test.msg {
				t.Errorf("without space for the %s: %+v, %v", name, job, err)
			}
			if log, err := s.Logs(t.Context(), "m", made.ID); err != nil || string(log) != test.log {
				t.Errorf("without space for the %s the log is %q, %v", name, log, err)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestFullDiskAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, begin := &fullDisk{}, make(chan struct{})
		cfg := Config{Dir: t.TempDir(), Start: func(_ context.Context, _ actions.Job, out Output) (Instance, error) {
			<-begin
			return talker{out.Line}, nil
		}}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.store.create = disk.create
		other, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		made, err := s.Submit(t.Context(), actions.Request{Model: "m"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		disk.set("job.json")
		close(begin)
		synctest.Wait()
		states := func() string {
			job, err := s.Job(t.Context(), "m", made.ID)
			seen, err2 := other.Job(t.Context(), "m", made.ID)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			return string(job.State + " " + seen.State)
		}
		if got := states(); got != "done queued" {
			t.Errorf("without space for the record: %s", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := states(); got != "done queued" || len(s.alive()) != 1 {
			t.Errorf("later: %s", got)
		}
		disk.set()
		time.Sleep(flushTime)
		synctest.Wait()
		if got := states(); got != "done done" || len(s.alive()) != 0 {
			t.Errorf("when there is space again: %s, %d in memory", got, len(s.alive()))
		}
		for _, s := range []*Jobs{s, other} {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestFullDiskOfResumed has no space for what a job writes that is resumed.
func TestFullDiskOfResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := make(chan struct{})
		cfg := Config{Dir: t.TempDir(), Resume: true, Start: func(ctx context.Context, _ actions.Job, out Output) (Instance, error) {
			select {
			case <-begin:
				return talker{out.Line}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}
		first, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		made, err := first.Submit(t.Context(), actions.Request{Model: "m"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := first.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		disk := &fullDisk{}
		disk.set("job.json", "log")
		s, err := open(cfg, disk.create)
		if err != nil {
			t.Fatal(err)
		}
		close(begin)
		synctest.Wait()
		if job, err := s.Job(t.Context(), "m", made.ID); err != nil || job.State != actions.JobDone {
			t.Errorf("without space: %+v, %v", job, err)
		}
		disk.set()
		time.Sleep(flushTime)
		synctest.Wait()
		if rec, err := s.store.readRecord(made.ID); err != nil || rec.Job.State != actions.JobDone || len(s.alive()) != 0 {
			t.Errorf("when there is space again: %+v, %v", rec, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
