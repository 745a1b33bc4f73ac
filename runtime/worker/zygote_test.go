package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

// startZygote starts a zygote that ends with the test.
func startZygote(tb testing.TB, fault string, cfg worker.ZygoteConfig) (*worker.Zygote, error) {
	tb.Helper()
	cfg.Argv = []string{"/proc/self/exe", "zygote"}
	cfg.Env = append(cfg.Env, zygoteVariable+"="+fault, "GORACE=atexit_sleep_ms=0")
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	z, err := worker.StartZygote(ctx, cfg)
	if err == nil {
		tb.Cleanup(func() { _ = z.Close() })
	}
	return z, err
}

func TestZygote(t *testing.T) {
	var log lockedBuffer
	z, err := startZygote(t, "", worker.ZygoteConfig{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if z.Note() != "left.out: because" {
		t.Errorf("got the note %q", z.Note())
	}
	eventually(t, "its lines are logged", func() bool { return strings.Contains(log.String(), "a line of the zygote") })
	cfg := config()
	cfg.Zygote = z
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			w := start(t, cfg)
			echo(t, w)
			if ppid(w.PID()) != z.PID() {
				t.Error("the worker is not a child of the zygote")
			}
			if err := w.Close(); err != nil || exists("/proc/"+strconv.Itoa(w.PID())) {
				t.Errorf("Close: %v; or it was not reaped", err)
			}
		})
	}
	wg.Wait()
	w := start(t, cfg)
	if err := z.Close(); err != nil {
		t.Error(err)
	}
	wantDone(t, w)
	wantCode(t, second(w.Call(t.Context(), actions.Request{})), actions.Unavailable)
}

func second(_ actions.Response, err error) error { return err }

// ppid returns the parent of a process.
func ppid(pid int) int {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(b), ") ")
	if fields := strings.Fields(after); len(fields) > 1 {
		n, _ := strconv.Atoi(fields[1])
		return n
	}
	return 0
}

// A call is canceled, and a worker is killed, by signals through the descriptor.
func TestSignalsOfAForkedWorker(t *testing.T) {
	z, err := startZygote(t, "", worker.ZygoteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Zygote = z
	cfg.StopGrace = 50 * time.Millisecond
	w := start(t, cfg)
	abandon(t, w, workertest.Args{Wait: true})
	if err := w.Settle(); err != nil {
		t.Error(err)
	}
	echo(t, w)
	abandon(t, w, workertest.Args{Hang: true})
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestZygotesThatDoNotStart(t *testing.T) {
	tests := []struct {
		fault, want string
		unsafe      bool
	}{
		{fault: "unsafe", want: "there are threads", unsafe: true},
		{fault: "exit", want: "it ended: exit status 3: last words"},
		{fault: "garbage", want: "packet of 5 bytes"},
		{fault: "type", want: "it began with a packet of type 7"},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			_, err := startZygote(t, tt.fault, worker.ZygoteConfig{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, worker.ErrUnsafe) != tt.unsafe {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := worker.StartZygote(ctx, worker.ZygoteConfig{
			Argv: []string{"/proc/self/exe", "zygote"}, Env: []string{zygoteVariable + "=silent"},
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no program", func(t *testing.T) {
		if _, err := worker.StartZygote(t.Context(), worker.ZygoteConfig{Argv: []string{"/nonexistent"}}); err == nil {
			t.Error("it starts")
		}
	})
}

// Whatever a zygote does wrong, Start says that there is no child, soon.
func TestForksThatFail(t *testing.T) {
	for _, tt := range []struct{ fault, want string }{
		{"refuse", "no more processes"},
		{"mute", "it did not answer within"},
		{"die", "it ended: exit status 4"},
		{"no descriptor", "and the descriptor -1"},
		{"two descriptors", "2 descriptors with a packet"},
		{"unknown type", "a packet of the unknown type 9"},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			cfg := worker.ZygoteConfig{}
			if tt.fault == "mute" {
				cfg.ForkPatience = 50 * time.Millisecond
			}
			z, err := startZygote(t, tt.fault, cfg)
			if err != nil {
				t.Fatal(err)
			}
			child := config()
			child.Zygote = z
			_, err = worker.Start(t.Context(), child)
			if !errors.Is(wantCode(t, err, actions.Unavailable), worker.ErrNotForked) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tt.fault == "mute" {
				if _, err := worker.Start(t.Context(), child); !z.Stuck() || !errors.Is(err, worker.ErrNotForked) {
					t.Errorf("the second time: %v", err)
				}
			}
		})
	}
}

// A child that comes when nobody waits for it any more is ended.
func TestLateChild(t *testing.T) {
	late := t.TempDir() + "/late"
	z, err := startZygote(t, "late", worker.ZygoteConfig{
		ForkPatience: 50 * time.Millisecond, Env: []string{"DEEPFN_TEST_LATE=" + late},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Zygote = z
	if _, err := worker.Start(t.Context(), cfg); !errors.Is(err, worker.ErrNotForked) {
		t.Fatalf("got %v", err)
	}
	eventually(t, "the child is there", func() bool { return len(kids(z.PID())) == 1 })
	child := kids(z.PID())[0]
	touch(t, late)
	eventually(t, "it is ended and reaped", func() bool { return len(kids(z.PID())) == 0 && !alive(child) })
	if z.Stuck() {
		t.Error("the zygote is taken for stuck, although it has answered")
	}
	echo(t, start(t, cfg))
}

// kids returns the children of the main thread of a process, the dead ones too.
func kids(pid int) []int {
	var found []int
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for word := range strings.FieldsSeq(string(b)) {
		n, _ := strconv.Atoi(word)
		found = append(found, n)
	}
	return found
}

func TestUnwantedChild(t *testing.T) {
	z, err := startZygote(t, "nobody asked", worker.ZygoteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Zygote = z
	w := start(t, cfg)
	echo(t, w)
	eventually(t, "only the worker is left", func() bool { k := kids(z.PID()); return len(k) == 1 && k[0] == w.PID() })
}

// Without the zygote's help nobody knows how a worker ended, but that it did.
func TestZygoteThatDoesNotReap(t *testing.T) {
	z, err := startZygote(t, "no-reap", worker.ZygoteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Zygote = z
	w := start(t, cfg)
	if err := unix.Kill(w.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantDone(t, w)
	if err := w.Err(); err == nil || !strings.Contains(err.Error(), "not reaped") {
		t.Errorf("got %v", err)
	}
}

func TestLeaveAFork(t *testing.T) {
	z, err := startZygote(t, "mute", worker.ZygoteConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Zygote = z
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = worker.Start(ctx, cfg)
	wantCode(t, err, actions.Deadline)
	if z.Stuck() {
		t.Error("the zygote is taken for stuck, although the caller has left")
	}
}

// What a zygote has forked ends with the front, as the zygote itself.
func TestForkedWorkerEndsWithTheFront(t *testing.T) {
	parent := exec.CommandContext(t.Context(), "/proc/self/exe")
	parent.Env = append(os.Environ(), parentVariable+"=zygote")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var server, child int
	if _, err := fmt.Fscan(stdout, &server, &child); err != nil {
		t.Fatal(err)
	}
	if !alive(server) || !alive(child) {
		t.Fatal("they do not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, "both end", func() bool { return !alive(server) && !alive(child) })
}

// forkingParent is a process with a worker that is forked.
func forkingParent() {
	z, err := worker.StartZygote(context.Background(), worker.ZygoteConfig{
		Argv: []string{"/proc/self/exe", "zygote"}, Env: []string{zygoteVariable + "="},
	})
	if err == nil {
		cfg := config()
		cfg.Zygote = z
		var w *worker.Worker
		if w, err = worker.Start(context.Background(), cfg); err == nil {
			fmt.Println(z.PID(), w.PID())
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}
