package gpu

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// childLibrary makes the test binary a process that has one monitor, of this library: NVML's
// functions are bound once in a process, and a function that is missing ends it.
const childLibrary = "DEEPFN_TEST_GPU_LIBRARY"

func TestMain(m *testing.M) {
	if library := os.Getenv(childLibrary); library != "" {
		serve(library, os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// An order is what a test asks of the process, a line of JSON.
type order struct {
	Op     string // "read", "changed", "close", or "open", which is another monitor
	Path   string // of the library to open
	Millis int    // how long at most
	Times  int    // how many at once
}

// An answer is the answer to an order.
type answer struct {
	Devices []actions.Device
	State   State
	Reason  string // of the state
	Error   string
	Code    actions.Code
	Changed bool
	Elapsed time.Duration
}

// serve carries out the orders, with a monitor of the library, until there are no more.
func serve(library string, in io.Reader, out io.Writer) {
	cfg := Config{Library: library, MPSPipe: os.Getenv("CUDA_MPS_PIPE_DIRECTORY"), RetryAfter: 1}
	m := Open(cfg)
	lines := json.NewDecoder(in)
	for {
		var o order
		if lines.Decode(&o) != nil {
			return
		}
		if o.Op == "open" {
			cfg.Library = o.Path
			m = Open(cfg)
		}
		_ = json.NewEncoder(out).Encode(obey(m, o))
	}
}

func obey(m *Monitor, o order) answer {
	var a answer
	var err error
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(o.Millis)*time.Millisecond)
	defer cancel()
	switch o.Op {
	case "read":
		var others sync.WaitGroup
		for range o.Times {
			others.Go(func() { _, _ = m.Read(ctx) })
		}
		a.Devices, err = m.Read(ctx)
		others.Wait()
	case "changed":
		select {
		case <-m.Changed():
			a.Changed = true
		case <-ctx.Done():
		}
	case "close":
		err = m.Close()
	}
	if err != nil {
		a.Error, a.Code = err.Error(), actions.CodeOf(err)
	}
	a.Elapsed = time.Since(began)
	var reason error
	if a.State, reason = m.State(); reason != nil {
		a.Reason = reason.Error()
	}
	return a
}

// A child is the process of a test.
type child struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

// startChild starts a process with a monitor of the library, and ends it with the test: how it
// ends is part of the test.
func startChild(t *testing.T, library string, env ...string) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childLibrary+"="+library)...)
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if inErr != nil || outErr != nil {
		t.Fatal(inErr, outErr)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, c.out)
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("the process with the library ended: %v", err)
		}
	})
	return c
}

func (c *child) do(o order) answer {
	c.t.Helper()
	if o.Millis == 0 {
		o.Millis = 10_000
	}
	line, _ := json.Marshal(o)
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatalf("%s: the process has ended: %v", o.Op, err)
	}
	text, err := c.out.ReadBytes('\n')
	if err != nil {
		c.t.Fatalf("%s: the process has ended: %v", o.Op, err)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		c.t.Fatalf("%s: got %q: %v", o.Op, text, err)
	}
	return a
}

func (c *child) read() answer {
	c.t.Helper()
	return c.do(order{Op: "read"})
}

// twoGPUs is a state with two devices without load.
func twoGPUs() gputest.State {
	return gputest.State{GPUs: []gputest.GPU{gputest.A100(0), gputest.A100(1)}}
}
