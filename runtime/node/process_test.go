package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// The test binary is a process of its own when mode is set, at the socket.
const (
	modeVariable   = "DEEPFN_TEST_NODE_MODE"
	socketVariable = "DEEPFN_TEST_NODE_SOCKET"

	// modeNode is a node: an echo, except that the model "hang" does not answer.
	modeNode = "node"
	// modeRelay is a relay: for each line that it reads it calls the model of that name, and
	// prints "ok" or the error. It prints the name first.
	modeRelay = "relay"

	// modeEcho sends what it reads from descriptor 3 to descriptor 4.
	modeEcho = "echo"

	// shortTTL is the time to live of the leases of such a node.
	shortTTL = 300 * time.Millisecond
)

// processMain is the process of a test, if it is one.
func processMain() {
	socket := os.Getenv(socketVariable)
	switch os.Getenv(modeVariable) {
	case modeNode:
		nodeMain(socket)
	case modeRelay:
		relayMain(socket)
	case modeEcho:
		echoMain()
	default:
		return
	}
	os.Exit(0)
}

func nodeMain(socket string) {
	ctx, stop := context.WithCancel(context.Background())
	go func() { // ends the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	ln, err := Listen(ctx, socket, 0o600)
	if err != nil {
		panic(err)
	}
	pool := &fakePool{}
	pool.invoke = func(ctx context.Context, req actions.Request) (actions.Response, error) {
		if req.Model == "hang" {
			fmt.Println("hangs")
			<-ctx.Done()
			return actions.Response{}, ctx.Err()
		}
		return pool.echo(req)
	}
	fmt.Println("ready")
	_ = New(Config{Pool: pool, Catalog: fakeCatalog{}, Forget: func(string) {}}).Serve(ctx, ln)
}

func relayMain(socket string) {
	r := NewRelay(RelayConfig{Path: socket})
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(lines.Text())
		if _, err := r.Invoke(context.Background(), actions.Request{Model: lines.Text()}); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("ok")
	}
}

func echoMain() {
	in, out := os.NewFile(3, "in"), os.NewFile(4, "out")
	var b [frameSize]byte
	for {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return
		}
		if _, err := out.Write(b[:]); err != nil {
			return
		}
	}
}

// A process is a node or a relay of its own.
type process struct {
	tb  testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startProcess starts a process, which ends with the test, and waits until it is ready.
func startProcess(tb testing.TB, mode, socket string) *process {
	tb.Helper()
	p := &process{tb: tb, cmd: exec.CommandContext(context.WithoutCancel(tb.Context()), "/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), modeVariable+"="+mode, socketVariable+"="+socket, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.kill)
	p.wantLine("ready")
	return p
}

// line returns the next line that it prints.
func (p *process) line() string {
	p.tb.Helper()
	if !p.out.Scan() {
		p.tb.Fatal("the process has ended")
	}
	return p.out.Text()
}

func (p *process) wantLine(want string) {
	p.tb.Helper()
	if got := p.line(); got != want {
		p.tb.Fatalf("got the line %q, want %q", got, want)
	}
}

func (p *process) call(model string) {
	p.tb.Helper()
	if _, err := fmt.Fprintln(p.in, model); err != nil {
		p.tb.Fatal(err)
	}
	p.wantLine(model)
}

func (p *process) signal(s syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatal(err)
	}
}

// stop freezes the process, and returns when it is frozen.
func (p *process) stop() {
	p.tb.Helper()
	p.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		p.tb.Fatalf("got %v, %v; want a process that is stopped", status, err)
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// hangingNode is a node in this process whose calls of "hang" end with their context only,
// and counts them.
func hangingNode(t *testing.T, running *atomic.Int64) *served {
	t.Helper()
	pool := &fakePool{}
	pool.invoke = func(ctx context.Context, req actions.Request) (actions.Response, error) {
		if req.Model == "hang" {
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			return actions.Response{}, ctx.Err()
		}
		return pool.echo(req)
	}
	s := serve(t, Config{Pool: pool, TTL: shortTTL})
	s.pool = pool
	return s
}

func TestRelayIsKilledInACall(t *testing.T) {
	var running atomic.Int64
	s := hangingNode(t, &running)
	maps := mappings(t)
	relay := startProcess(t, modeRelay, s.path)
	relay.call("hang")
	eventually(t, "the call", func() bool { return running.Load() == 1 })
	relay.kill()
	eventually(t, "no call and no lease", func() bool { return running.Load() == 0 && s.Relays() == 0 })
	eventually(t, "no memory of it", func() bool { return mappings(t) <= maps })
}

func TestRelayIsFrozenPastItsLease(t *testing.T) {
	var running atomic.Int64
	s := hangingNode(t, &running)
	maps := mappings(t)
	relay := startProcess(t, modeRelay, s.path)
	relay.call("m")
	relay.wantLine("ok")
	relay.call("hang")
	eventually(t, "the call", func() bool { return running.Load() == 1 })
	relay.stop()
	eventually(t, "the end of its lease", func() bool { return running.Load() == 0 && s.Relays() == 0 && mappings(t) <= maps })
	relay.signal(syscall.SIGCONT)
	if got := relay.line(); !strings.Contains(got, "not sent again") {
		t.Errorf("the call that was under way: got %q, want an error that says so", got)
	}
	relay.call("m")
	relay.wantLine("ok")
}

// TestIdleRelayIsFrozenPastItsLease sends the first request after the thaw at once, as
// OpenWhisk does.
func TestIdleRelayIsFrozenPastItsLease(t *testing.T) {
	var running atomic.Int64
	s := hangingNode(t, &running)
	relay := startProcess(t, modeRelay, s.path)
	relay.call("m")
	relay.wantLine("ok")
	relay.stop()
	eventually(t, "the end of its lease", func() bool { return s.Relays() == 0 })
	if _, err := fmt.Fprintln(relay.in, "m"); err != nil {
		t.Fatal(err)
	}
	relay.signal(syscall.SIGCONT)
	relay.wantLine("m")
	relay.wantLine("ok")
}

// TestRelayIsFrozenBriefly keeps its lease, and the call.
func TestRelayIsFrozenBriefly(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{})
	pool := &fakePool{invoke: func(_ context.Context, _ actions.Request) (actions.Response, error) {
		close(began)
		<-release
		return actions.Response{Data: []byte("1")}, nil
	}}
	s := serve(t, Config{Pool: pool, TTL: time.Hour})
	relay := startProcess(t, modeRelay, s.path)
	relay.call("m")
	<-began
	relay.stop()
	close(release)
	relay.signal(syscall.SIGCONT)
	relay.wantLine("ok")
}

func TestNodeIsKilledInACall(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	first := startProcess(t, modeNode, socket)
	r := relayTo(t, RelayConfig{Path: socket})
	result := make(chan error, 1)
	go func() {
		_, err := r.Invoke(t.Context(), actions.Request{Model: "hang"})
		result <- err
	}()
	first.wantLine("hangs")
	first.kill()
	err := <-result
	if e := wantCode(t, err, actions.Unavailable, "not sent again"); e.RetryAfter == 0 {
		t.Error("the error does not say when to try again")
	}
	// A request that comes while there is none waits for the next node, on the socket file
	// that the first has left.
	go func() {
		_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
		result <- err
	}()
	startProcess(t, modeNode, socket)
	if err := <-result; err != nil {
		t.Errorf("the request that waited: %v", err)
	}
}

func TestNodeRestartsWhileRelaysIdle(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	first := serveAt(t, socket, Config{})
	r := first.relay(t)
	m, err := r.Import(t.Context(), actions.Source{Data: []byte("code")})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Warm(t.Context(), m.Name, 1); err != nil {
		t.Fatal(err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := serveAt(t, socket, Config{})
	if _, err := r.Invoke(t.Context(), actions.Request{Model: m.Name}); err != nil {
		t.Errorf("a request after the restart: %v", err)
	}
	eventually(t, "that the model is warm again", func() bool {
		heard := second.pool.heard()
		return len(heard) > 0 && heard[len(heard)-1] == "warm "+m.Name
	})
}

func TestNodeIsFrozen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	n := startProcess(t, modeNode, socket)
	r := relayTo(t, RelayConfig{Path: socket})
	if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.Invoke(ctx, actions.Request{Model: "m"})
	wantCode(t, err, actions.Deadline)
	if r.Ready() == nil {
		t.Error("the relay is ready while the node does not answer")
	}
	n.signal(syscall.SIGCONT)
	if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}
