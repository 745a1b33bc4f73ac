package jobs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// printed runs a job that prints lines, and returns it with its log and the size of that
// on disk.
func printed(t *testing.T, maxLog int64, lines ...actions.LogLine) (job actions.Job, log string, size int64) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := &engine{call: func(_ context.Context, _ actions.Request, output func(actions.LogLine)) (actions.Response, error) {
			for _, line := range lines {
				output(line)
			}
			return jsonResponse(`{}`), nil
		}}
		s := open(t, jobs.Config{Dir: dir, Start: e.start, MaxLog: maxLog})
		id := submit(t, s, train("m")).ID
		synctest.Wait()
		job, log = get(t, s, id), logs(t, s, id)
	})
	names, err := filepath.Glob(filepath.Join(dir, job.ID, "log*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return job, log, size
}

func stdout(text string) actions.LogLine { return actions.LogLine{Stream: actions.Stdout, Text: text} }

func stderr(text string) actions.LogLine { return actions.LogLine{Stream: actions.Stderr, Text: text} }

func bar(text string, n, total int) string {
	return fmt.Sprintf("%s%3d%%|%-10s| %d/%d [00:01<00:02, 30.1it/s]", text, n*100/total, strings.Repeat("█", n*10/total), n, total)
}

func TestBarsInTheLog(t *testing.T) {
	var lines []actions.LogLine
	for epoch := range 3 {
		lines = append(lines, stderr("")) // a bar begins with a carriage return
		for n := range 1001 {
			lines = append(lines, stderr(bar(fmt.Sprintf("epoch %d: ", epoch), n, 1000)))
		}
		lines = append(lines, stderr(bar(fmt.Sprintf("epoch %d: ", epoch), 1000, 1000))) // as tqdm does
	}
	lines = append(lines, stdout("saved"))
	for n := range 500 {
		lines = append(lines, stderr("\r"+bar("test: ", n, 1000)+"\r"+bar("test: ", n, 1000)+"\r\n"))
	}
	lines = append(lines, stderr("Traceback"))
	job, log, _ := printed(t, 0, lines...)
	want := strings.Join([]string{
		"", bar("epoch 0: ", 1000, 1000), bar("epoch 1: ", 1000, 1000), "saved",
		bar("epoch 2: ", 1000, 1000), bar("test: ", 499, 1000), "Traceback", "",
	}, "\n")
	if log != want {
		t.Errorf("got the log\n%s\nwant\n%s", log, want)
	}
	if p := job.Progress; p == nil || p.Fraction != 0.49 || p.Text != "test" {
		t.Errorf("got the progress %+v", p)
	}
}

func TestWordsOfTheModelComeFirst(t *testing.T) {
	job, log, _ := printed(t, 0,
		stderr(bar("", 9, 10)), stdout("deepfn-progress: 0.5 half"), stderr(bar("", 1, 10)),
		stdout("deepfn-progress: 0.6 more"), stdout("deepfn-progress: nan"), stderr(bar("", 2, 10)))
	if p := job.Progress; p == nil || p.Fraction != 0.6 || p.Text != "more" {
		t.Errorf("got the progress %+v", p)
	}
	if want := "deepfn-progress: 0.6 more\ndeepfn-progress: nan\n" + bar("", 2, 10) + "\n"; log != want {
		t.Errorf("got the log %q, want %q", log, want)
	}
}

func TestLongLog(t *testing.T) {
	var lines []actions.LogLine
	for i := range 20_000 {
		lines = append(lines, stdout(fmt.Sprintf("line %d", i)))
	}
	job, log, size := printed(t, 8<<10, lines...)
	if job.State != actions.JobDone || size > 8<<10 || size < 6<<10 {
		t.Errorf("job is %s, its log has %d bytes", job.State, size)
	}
	if !strings.HasPrefix(log, "line 0\nline 1\n") || !strings.HasSuffix(log, "line 19998\nline 19999\n") {
		t.Errorf("it begins with %q and ends with %q", log[:20], log[len(log)-20:])
	}
	head, tail, ok := strings.Cut(log, "deepfn: ")
	count, tail, ok2 := strings.Cut(tail, " bytes were left out here\n")
	if !ok || !ok2 {
		t.Fatal("it does not say that something was left out")
	}
	whole := 0
	for _, line := range lines {
		whole += len(line.Text) + 1
	}
	if want := fmt.Sprint(whole - len(head) - len(tail)); count != want {
		t.Errorf("it says that %s bytes were left out, want %s", count, want)
	}
}

func TestLogKeepsWhatFits(t *testing.T) {
	var lines []actions.LogLine
	var want strings.Builder
	for i := range 100 {
		lines = append(lines, stdout(fmt.Sprint("line ", i)))
		fmt.Fprintln(&want, "line", i)
	}
	if _, log, _ := printed(t, 0, lines...); log != want.String() {
		t.Errorf("got %q", log)
	}
}

func TestLongLine(t *testing.T) {
	_, log, size := printed(t, 1, stdout(strings.Repeat("é", 1<<20)), stdout("next"))
	if size > 4<<10 || !strings.HasSuffix(log, "é\nnext\n") || len(log) < 1000 {
		t.Errorf("%d bytes, which end with %q", size, log[max(len(log)-20, 0):])
	}
}

func TestOutputThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late func(actions.LogLine)
		e := &engine{call: func(_ context.Context, _ actions.Request, output func(actions.LogLine)) (actions.Response, error) {
			late = output
			return jsonResponse(`{}`), nil
		}}
		dir := t.TempDir()
		s := open(t, jobs.Config{Dir: dir, Start: e.start})
		id := submit(t, s, train("m")).ID
		synctest.Wait()
		late(stdout("late"))
		late(stdout("deepfn-progress: 0.5"))
		if job, log := get(t, s, id), logs(t, s, id); job.Progress != nil || log != "" {
			t.Errorf("got %+v and the log %q", job.Progress, log)
		}
		if _, err := s.Cancel(t.Context(), "m", id); err != nil {
			t.Fatal(err)
		}
		late(stdout("later"))
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
