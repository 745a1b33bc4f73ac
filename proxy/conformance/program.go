package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A program is a target that a command of the shell starts on this machine.
type program struct {
	command string
	env     []string
	timeout time.Duration

	mu    sync.Mutex // guards fixed
	fixed bool       // it listens on the contract's port, whatever PORT says
}

func (p *program) has() abilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	return abilities{fresh: true, env: true, logs: true, signals: true, files: true, parallel: !p.fixed}
}

// start starts the command in a folder of its own, as the leader of a process group.
func (p *program) start(ctx context.Context, env map[string]string) (container, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	contract := net.JoinHostPort("127.0.0.1", contractPort)
	fixed := !p.has().parallel
	taken := p.waitForRelease(ctx, contract, fixed)
	if fixed && taken {
		return nil, fmt.Errorf("port %s, on which the command listens, is taken by another program", contractPort)
	}
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return nil, err
	}
	c := &process{dir: dir, done: make(chan struct{})}
	c.cmd = exec.Command("/bin/sh", "-c", strings.ReplaceAll(p.command, "{port}", port)) //nolint:noctx // #nosec G204 -- it outlives this call
	c.cmd.Env = environment(p.env, env, port)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = dir, &c.stdout, &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go c.wait()
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	own := net.JoinHostPort("127.0.0.1", port)
	onContract := func() bool {
		return !taken && accepts(ctx, contract) && listensOn(c.cmd.Process.Pid, contractPort)
	}
	listens := func() bool { return !fixed && accepts(ctx, own) || onContract() }
	if err := c.waitUntil(ctx, listens); err != nil {
		c.close()
		if taken {
			err = fmt.Errorf("%w (port %s, where it may have wanted to listen, is taken by another program)", err, contractPort)
		}
		return nil, err
	}
	c.address = own
	if fixed || !accepts(ctx, own) {
		c.address = contract
		p.mu.Lock()
		p.fixed = true
		p.mu.Unlock()
	}
	return c, nil
}

// waitForRelease says whether a port is taken. When it is needed, it waits a while for
// the one before to leave it.
func (p *program) waitForRelease(ctx context.Context, address string, needed bool) (taken bool) {
	for until := time.Now().Add(5 * time.Second); accepts(ctx, address); time.Sleep(50 * time.Millisecond) {
		if !needed || time.Now().After(until) {
			return true
		}
	}
	return false
}

// environment is the environment of a command: what the caller has, with a port and with
// more variables.
func environment(own []string, more map[string]string, port string) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := more[name]
		return replaced || name == "PORT"
	})
	env = append(env, "PORT="+port)
	for name, value := range more {
		env = append(env, name+"="+value)
	}
	return env
}

// freePort returns a port on which nobody listens.
func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, errors.Join(err, ln.Close())
}

// A process is a container that is a process group of this machine.
type process struct {
	cmd            *exec.Cmd
	dir, address   string
	stdout, stderr buffer
	done           chan struct{} // closed when it has ended
	err            error         // how; read after done
}

// wait reaps the process. It ends when the process has.
func (c *process) wait() {
	if c.err = c.cmd.Wait(); c.err == nil {
		c.err = errors.New("exit status 0")
	}
	close(c.done)
}

// waitUntil waits until something holds or the process has ended.
func (c *process) waitUntil(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-c.done:
			return fmt.Errorf("the command ended before it listened: %w; it printed: %s", c.err, short([]byte(c.stderr.String()+c.stdout.String())))
		case <-ctx.Done():
			return fmt.Errorf("the command listens neither on its PORT nor on %s: %w; it printed: %s", contractPort, ctx.Err(), short([]byte(c.stderr.String()+c.stdout.String())))
		case <-tick.C:
		}
	}
	return nil
}

func (c *process) base() string { return "http://" + c.address }

func (c *process) logs() (stdout, stderr string) { return c.stdout.String(), c.stderr.String() }

// terminate sends SIGTERM to the program that the shell has started, or has become.
func (c *process) terminate(context.Context) error {
	pid := c.cmd.Process.Pid
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // without /proc it is the shell's
	switch strings.TrimSpace(string(name)) {
	case "sh", "dash", "bash", "ash", "busybox":
		if children := childrenOf(pid); len(children) > 0 {
			pid = children[0]
		}
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}

func (c *process) freeze(context.Context) error { return c.signalAll(syscall.SIGSTOP) }
func (c *process) thaw(context.Context) error   { return c.signalAll(syscall.SIGCONT) }

// signalAll sends a signal to the process and to all that descend from it.
func (c *process) signalAll(signal syscall.Signal) error {
	pid := c.cmd.Process.Pid
	all := descendants(pid) // some are in groups of their own
	err := syscall.Kill(-pid, signal)
	for _, child := range all {
		_ = syscall.Kill(child, signal) // it may have ended meanwhile
	}
	return err
}

func (c *process) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *process) close() {
	_ = c.signalAll(syscall.SIGKILL) // it may have ended
	<-c.done
	_ = os.RemoveAll(c.dir) // a leftover in the folder for temporary files
}

// childrenOf returns the processes that a process has started, as Linux lists them.
func childrenOf(pid int) (pids []int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list) // #nosec G304 -- a list of the kernel; the thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// descendants returns the children of a process, and theirs.
func descendants(pid int) (pids []int) {
	for _, child := range childrenOf(pid) {
		pids = append(append(pids, child), descendants(child)...)
	}
	return pids
}

// A buffer keeps what is written to it. Several goroutines may use it.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}
