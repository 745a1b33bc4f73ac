package worker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
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

	// pidfd is the process itself if it is the child of a Zygote, else -1. It is open
	// until the process is reaped.
	pidfd int

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
		Env:        environ(cfg),
		Stdout:     stdout,
		Stderr:     stderr,
		ExtraFiles: extra,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	p := &process{exited: make(chan struct{}), pidfd: -1}
	started := make(chan error, 1)
	go p.run(cmd, started)
	return p, <-started
}

// environ returns the environment of a child. Of two variables of the same name the later
// counts.
func environ(cfg *Config) []string {
	return append(append(os.Environ(), cfg.Env...), fmt.Sprintf("%s=%d", cookie, version))
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
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return state.String()
	}
	return ended(ws)
}

// exitStatus begins the state of a process that has exited.
const exitStatus = "exit status "

// ended says how a process ended, in the words of os.ProcessState.
func ended(ws syscall.WaitStatus) string {
	switch {
	case ws.Signaled() && ws.Signal() == syscall.SIGKILL:
		return "signal: killed (by somebody, or by the kernel for want of memory)"
	case ws.Signaled() && ws.CoreDump():
		return fmt.Sprintf("signal: %v (core dumped)", ws.Signal())
	case ws.Signaled():
		return fmt.Sprintf("signal: %v", ws.Signal())
	default:
		return exitStatus + strconv.Itoa(ws.ExitStatus())
	}
}

// kill kills the group of the process.
func (p *process) kill() { p.signal(-p.pid, unix.SIGKILL) }

// signal sends a signal to pid, which is the process or its group, unless it has ended.
func (p *process) signal(pid int, sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.signalLocked(pid, sig)
	}
}

func (p *process) signalLocked(pid int, sig unix.Signal) {
	if p.pidfd >= 0 {
		flags := 0
		if pid < 0 {
			flags = pidfdSignalGroup
		}
		err := unix.PidfdSendSignal(p.pidfd, sig, nil, flags)
		if err == nil || errors.Is(err, unix.ESRCH) {
			return
		}
		// Linux before 6.9 cannot signal a group so, and a sandbox may not allow it.
	}
	_ = unix.Kill(pid, sig)
}
