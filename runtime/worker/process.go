package worker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// cookie is the variable of the environment that tells a program that it was started
// as a worker. Its value are the versions of the protocol that the parent speaks.
const cookie = "DEEPFN_WORKER"

// The descriptors of a child.
const (
	fdControlIn  = 3
	fdControlOut = 4
	fdRequests   = 5
	fdResponses  = 6
)

// A process is a child and the group that it leads.
type process struct {
	pid    int
	exited chan struct{} // closed when the process was reaped
	state  string        // how it ended; set before exited is closed

	mu     sync.Mutex // guards reaped
	reaped bool
}

// spawn starts a process of cfg with the given output streams and extra descriptors.
func spawn(cfg *Config, stdout, stderr *os.File, extra []*os.File) (*process, error) {
	path, err := exec.LookPath(cfg.Argv[0])
	if err == nil {
		// Else a relative path would mean something else after the change to Dir.
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:       path,
		Args:       cfg.Argv,
		Dir:        cfg.Dir,
		Env:        append(append(os.Environ(), cfg.Env...), fmt.Sprintf("%s=%d", cookie, version)),
		Stdout:     stdout,
		Stderr:     stderr,
		ExtraFiles: extra,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	p := &process{exited: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	return p, <-started
}

// run is the one goroutine that starts and reaps the process. It ends when the
// process has. It keeps its thread to itself for so long, because the kernel sends the
// Pdeathsig when the thread that started the process ends, and Go ends threads as it
// sees fit.
func (p *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil

	// The dead process is not reaped at once: as long as it is a zombie, nobody else
	// can get its id, so that the rest of its group can be killed safely.
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	err := cmd.Wait()
	p.reaped = true
	p.mu.Unlock()
	p.state = ending(cmd.ProcessState, err)
	close(p.exited)
}

// ending says how a process ended.
func ending(state *os.ProcessState, err error) string {
	if state == nil {
		return fmt.Sprint(err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		return state.String() + " (by somebody, or by the kernel for want of memory)"
	}
	return state.String()
}

// kill kills the group of the process.
func (p *process) kill() { p.signal(-p.pid, unix.SIGKILL) }

// signal sends a signal to pid, which is the process or its group, unless it has ended.
func (p *process) signal(pid int, sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(pid, sig)
	}
}
