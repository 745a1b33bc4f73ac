package launcher_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// patience bounds what a test waits for.
const patience = time.Minute

// interpreter returns the interpreter of a variable of the environment.
func interpreter(tb testing.TB, variable string) string {
	tb.Helper()
	path := os.Getenv(variable)
	if path == "" {
		tb.Fatalf("%s is not set; run make test", variable)
	}
	return path
}

// A bench is a launcher with what it logs.
type bench struct {
	*launcher.Launcher
	log lines
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open opens a launcher that ends with the test.
func open(tb testing.TB, cfg launcher.Config) *bench {
	tb.Helper()
	b := &bench{}
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	cfg.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	var err error
	if b.Launcher, err = launcher.New(cfg); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return b
}

// action returns how a file with the given text is run.
func action(tb testing.TB, text string) launcher.Run {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "action_of_test.py"), []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return launcher.Run{
		Model:  actions.Model{Name: "model", Dir: dir, Runtime: actions.Python},
		Spec:   launcher.Spec{Path: "action_of_test.py"},
		Python: interpreter(tb, "DEEPFN_TEST_PYTHON_CURRENT"),
	}
}

// start starts a worker that ends with the test.
func (b *bench) start(tb testing.TB, run launcher.Run) *worker.Worker {
	tb.Helper()
	w, err := b.Start(tb.Context(), run)
	if err != nil {
		tb.Fatalf("Start: %v; the log: %s", err, b.log.String())
	}
	tb.Cleanup(func() { _ = w.Close() })
	return w
}

// forked starts workers until one is forked, which it returns.
func (b *bench) forked(tb testing.TB, run launcher.Run) *worker.Worker {
	tb.Helper()
	run.Fork = true
	_ = b.start(tb, run).Close()
	eventually(tb, "a fork server is ready", func() bool { return strings.Contains(b.log.String(), "fork server ready") })
	w := b.start(tb, run)
	if parent(tb, w.PID()) == os.Getpid() {
		tb.Fatalf("the worker was not forked; the log: %s", b.log.String())
	}
	return w
}

// ask calls main(args) of the model and decodes its answer.
func ask(tb testing.TB, w *worker.Worker, args string) (answer map[string]any, logs []actions.LogLine) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	resp, err := w.Call(ctx, actions.Request{Args: []byte(args)})
	if err != nil {
		tb.Fatalf("Call: %v", err)
	}
	if err := json.Unmarshal(resp.Data, &answer); err != nil {
		tb.Fatalf("%s: %v", resp.Data, err)
	}
	return answer, resp.Logs
}

// eventually waits until ok.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// parent returns the id of the parent of a process, 0 when it has ended.
func parent(tb testing.TB, pid int) int {
	tb.Helper()
	stat := status(pid)
	if len(stat) < 2 {
		return 0
	}
	var ppid int
	if err := json.Unmarshal([]byte(stat[1]), &ppid); err != nil {
		tb.Fatal(err)
	}
	return ppid
}

// alive says whether a process runs.
func alive(pid int) bool {
	stat := status(pid)
	return len(stat) > 0 && stat[0] != "Z" && stat[0] != "X"
}

// status returns the state of a process, its parent, its group and so on.
func status(pid int) []string {
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return strings.Fields(after)
}

// children returns the processes that a process has started and that run.
func children(tb testing.TB, pid int) []int {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "task", itoa(pid), "children"))
	if err != nil {
		tb.Fatal(err)
	}
	var pids []int
	for word := range strings.FieldsSeq(string(b)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			tb.Fatal(err)
		}
		pids = append(pids, child)
	}
	return pids
}

// zygotes returns the fork servers of this process.
func zygotes(tb testing.TB) []int {
	tb.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		tb.Fatal(err)
	}
	var found []int
	for _, task := range tasks {
		b, _ := os.ReadFile(task) // a thread may have ended
		for word := range strings.FieldsSeq(string(b)) {
			if comm, err := os.ReadFile("/proc/" + word + "/comm"); err == nil && string(comm) == "deepfn-fork\n" {
				pid, _ := strconv.Atoi(word)
				found = append(found, pid)
			}
		}
	}
	return found
}

// descriptors returns how many descriptors this process has open.
func descriptors(tb testing.TB) int { tb.Helper(); return entries(tb, os.Getpid()) }

// entries returns how many descriptors a process has open.
func entries(tb testing.TB, pid int) int {
	tb.Helper()
	found, err := os.ReadDir(filepath.Join("/proc", itoa(pid), "fd"))
	if err != nil {
		tb.Fatal(err)
	}
	return len(found)
}

// wantDone waits for the end of a worker.
func wantDone(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	select {
	case <-w.Done():
	case <-time.After(patience):
		tb.Fatal("the worker does not end")
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// number returns a number of a JSON document.
func number(v any) int {
	n, _ := v.(float64)
	return int(n)
}
