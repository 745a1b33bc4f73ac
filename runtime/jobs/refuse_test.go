package jobs_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

func TestSubmitRefuses(t *testing.T) {
	still := time.Now().Add(time.Hour)
	tests := map[string]struct {
		deadline time.Time
		req      actions.Request
		shown    string
		code     actions.Code
		words    string
	}{
		"no model":    {still, actions.Request{}, `{}`, actions.Invalid, "needs a model"},
		"no object":   {still, train("m"), `[1]`, actions.Invalid, "JSON object"},
		"no json":     {still, train("m"), `{"a"`, actions.Invalid, "JSON object"},
		"long":        {still, train("m"), `{"a":"` + strings.Repeat("x", 8<<20) + `"}`, actions.TooLarge, "8388608"},
		"caller left": {still, train("m"), `{}`, actions.Canceled, "context canceled"},
		"late":        {time.Unix(1, 0), train("m"), `{}`, actions.Deadline, "deadline"},
	}
	dir := t.TempDir()
	s := open(t, jobs.Config{Dir: dir, Start: (&engine{}).start})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithDeadline(t.Context(), test.deadline)
			defer cancel()
			if name == "caller left" {
				cancel()
			}
			_, err := s.Submit(ctx, test.req, json.RawMessage(test.shown))
			want(t, err, test.code, test.words)
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	start := (&engine{}).start
	for name, cfg := range map[string]jobs.Config{
		"no folder": {Start: start}, "no start": {Dir: t.TempDir()}, "a file": {Dir: file, Start: start},
		"below a file": {Dir: file + "/jobs", Start: start},
	} {
		if s, err := jobs.Open(cfg); err == nil || s != nil {
			t.Errorf("%s: got %v, %v", name, s, err)
		}
	}
}

func TestUnknownJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o700); err != nil {
			t.Fatal(err)
		}
		s := open(t, jobs.Config{Dir: filepath.Join(dir, "jobs"), Start: (&engine{}).start})
		id := submit(t, s, train("m")).ID
		running := submit(t, s, train("m")).ID
		synctest.Wait()
		for _, bad := range [][2]string{
			{"m", ""},
			{"m", "."},
			{"m", "../jobs/" + id},
			{"m", strings.Repeat("0", 32)},
			{"m", strings.ToUpper(id)},
			{"m", id + "\x00"},
			{"m", id[:31] + "/"},
			{"m", "/" + id[1:]},
			{"m", strings.Repeat("../", 10) + "aa"},
			{"m", id + id},
			{"other", id},
			{"", id},
			{"../m", running},
			{"m/", running},
		} {
			_, err := s.Job(t.Context(), bad[0], bad[1])
			want(t, err, actions.NotFound, "no such job")
			_, err = s.Cancel(t.Context(), bad[0], bad[1])
			want(t, err, actions.NotFound, "no such job")
			_, err = s.Logs(t.Context(), bad[0], bad[1])
			want(t, err, actions.NotFound, "no such job")
			_, err = s.Result(t.Context(), bad[0], bad[1])
			want(t, err, actions.NotFound, "no such job")
		}
		for _, model := range []string{"", "other", "../m"} {
			if list, err := s.List(t.Context(), model); err != nil || list == nil || len(list) > 0 {
				t.Errorf("List of %q: %v, %v", model, list, err)
			}
		}
		get(t, s, id)
	})
}
