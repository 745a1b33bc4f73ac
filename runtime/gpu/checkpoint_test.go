package gpu

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// TestSupported says why there are no checkpoints.
func TestSupported(t *testing.T) {
	failing := gputest.CUDA(t)
	failing.Set(gputest.State{Rules: []gputest.Rule{{Function: "cuInit", Code: 100}}})
	for name, tt := range map[string]struct{ path, says string }{
		"no library": {"/nowhere/libcuda.so.1", "No such file"},
		"old driver": {gputest.CUDA(t, "cuCheckpoint*").Path(), "has no cuCheckpointProcess"},
		"one lacks":  {gputest.CUDA(t, "cuCheckpointProcessUnlock").Path(), "has no cuCheckpointProcessUnlock"},
		"no device":  {failing.Path(), "cuInit: CUDA error 100"},
	} {
		c := OpenCheckpoint(CheckpointConfig{Library: tt.path})
		for what, err := range map[string]error{
			"supported": c.Supported(), "suspend": c.Suspend(t.Context(), 7), "resume": c.Resume(t.Context(), 7),
		} {
			if actions.CodeOf(err) != actions.Unsupported || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %s: got %v, want Unsupported that says %q", name, what, err, tt.says)
			}
		}
	}
	if err := OpenCheckpoint(CheckpointConfig{Library: gputest.CUDA(t, "cuGetErrorName").Path()}).Supported(); err != nil {
		t.Errorf("got %v, want that names of errors are not needed", err)
	}
}

// TestSuspend takes a process off and puts it back, and each step may fail: the process runs on
// then.
func TestSuspend(t *testing.T) {
	for name, tt := range map[string]struct {
		rules []gputest.Rule
		calls []string // of the suspend
		says  string   // its error
	}{
		"well": {nil, []string{"lock 7 5000", "checkpoint 7"}, ""},
		"no lock": {
			[]gputest.Rule{{Function: "cuCheckpointProcessLock", Code: 600}},
			[]string{"lock 7 5000"},
			"lock: CUDA_ERROR_NOT_READY (600)",
		},
		"no checkpoint": {
			[]gputest.Rule{{Function: "cuCheckpointProcessCheckpoint", Code: 801}},
			[]string{"lock 7 5000", "checkpoint 7", "unlock 7"},
			"checkpoint: CUDA error 801",
		},
		"nor an unlock": {
			[]gputest.Rule{{Function: "cuCheckpointProcessCheckpoint", Code: 801}, {Function: "cuCheckpointProcessUnlock", Code: 999}},
			[]string{"lock 7 5000", "checkpoint 7", "unlock 7"},
			"unlock: CUDA error 999",
		},
	} {
		lib := gputest.CUDA(t)
		lib.Set(gputest.State{Rules: tt.rules})
		c := OpenCheckpoint(CheckpointConfig{Library: lib.Path()})
		err := c.Suspend(t.Context(), 7)
		calls := lib.Calls()
		if diff := cmp.Diff(append([]string{"init 0"}, tt.calls...), calls); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
		if (err == nil) != (tt.says == "") || err != nil && (actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
		lib.Set(gputest.State{})
		if err := c.Resume(t.Context(), 7); err != nil {
			t.Errorf("%s: resume: %v", name, err)
		}
		if state, code := c.cuda.state(7); state != stateRunning || code != 0 {
			t.Errorf("%s: got state %d (%d), want that it runs", name, state, code)
		}
	}
}

// TestResumeFails names the step.
func TestResumeFails(t *testing.T) {
	for function, says := range map[string]string{
		"cuCheckpointProcessGetState": "state: CUDA error 2",
		"cuCheckpointProcessRestore":  "restore: CUDA error 2",
		"cuCheckpointProcessUnlock":   "unlock: CUDA error 2",
	} {
		lib := gputest.CUDA(t)
		c := OpenCheckpoint(CheckpointConfig{Library: lib.Path()})
		if err := c.Suspend(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		lib.Set(gputest.State{Rules: []gputest.Rule{{Function: function, Code: 2}}})
		if err := c.Resume(t.Context(), 7); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", function, err, says)
		}
	}
	c := OpenCheckpoint(CheckpointConfig{Library: gputest.CUDA(t).Path()})
	for _, pid := range []int{0, -1, 1 << 40} {
		if err := c.Suspend(t.Context(), pid); actions.CodeOf(err) != actions.Invalid {
			t.Errorf("process %d: got %v, want Invalid", pid, err)
		}
	}
}

// TestSuspendHangs has the driver take longer than the caller waits, in each step: the caller
// returns, and the process runs in the end.
func TestSuspendHangs(t *testing.T) {
	for _, function := range []string{"cuInit", "cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint"} {
		lib := gputest.CUDA(t)
		lib.Set(gputest.State{Rules: []gputest.Rule{{Function: function, Wait: 1000}}})
		c := OpenCheckpoint(CheckpointConfig{Library: lib.Path()})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := c.Suspend(ctx, 7); actions.CodeOf(err) != actions.Deadline {
			t.Errorf("%s: got %v, want Deadline", function, err)
		}
		if err := c.Resume(ctx, 7); actions.CodeOf(err) != actions.Deadline {
			t.Errorf("%s: resume meanwhile: got %v, want Deadline", function, err)
		}
		cancel()
		done, err := c.claim(t.Context(), 7) // until the suspend has ended
		if err != nil {
			t.Fatal(err)
		}
		if state, _ := c.cuda.state(7); state != stateRunning {
			t.Errorf("%s: got state %d, want that it runs", function, state)
		}
		c.release(7, done)
		if err := c.Resume(t.Context(), 7); err != nil {
			t.Errorf("%s: resume: %v", function, err)
		}
		if err := c.Suspend(t.Context(), 8); err != nil {
			t.Errorf("%s: another process: %v", function, err)
		}
	}
}

// TestCheckpointLockTime is the shorter of the setting and what the caller has left.
func TestCheckpointLockTime(t *testing.T) {
	c := OpenCheckpoint(CheckpointConfig{LockTime: 700 * time.Millisecond})
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	over, cancelOver := context.WithTimeout(t.Context(), -1)
	defer cancelOver()
	for name, tt := range map[string]struct {
		got, low, high uint
	}{
		"setting": {c.lockMillis(t.Context()), 700, 700}, "caller": {c.lockMillis(short), 1, 100}, "over": {c.lockMillis(over), 1, 1},
	} {
		if tt.got < tt.low || tt.got > tt.high {
			t.Errorf("%s: got %d, want %d to %d; zero would be no limit", name, tt.got, tt.low, tt.high)
		}
	}
}

// TestCheckpointRace has many suspend and resume the same processes: each ends as it was asked
// last.
func TestCheckpointRace(t *testing.T) {
	lib := gputest.CUDA(t)
	c := OpenCheckpoint(CheckpointConfig{Library: lib.Path()})
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for range 20 {
				if err := c.Suspend(t.Context(), i+1); err != nil {
					t.Error(err)
				}
				if err := c.Resume(t.Context(), i+1); err != nil {
					t.Error(err)
				}
			}
		})
		users.Go(func() {
			for range 20 {
				if err := c.Resume(t.Context(), 100+i%2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	if len(c.busy) != 0 {
		t.Errorf("got %v, want nothing left", c.busy)
	}
}
