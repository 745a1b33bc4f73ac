// Package command runs a program that knows nothing of deepfn inside the child of a
// worker, so that it ends with that child. Package actionloop and package bridge speak
// with such programs.
package command

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

// A Config says what to start.
type Config struct {
	// Argv is the program and its arguments. A program with a slash is a path, absolute or
	// in Folder; one without is a file in Folder or, when there is none, in PATH.
	Argv []string
	// Folder is the action's folder; empty for an action that has none.
	Folder string
	// Dir is the working directory; empty means Folder, or that of this process.
	Dir string
	// Env is the environment, each "KEY=value", of which the later hide the earlier; Environ
	// makes one.
	Env []string
	// Stdin is what the program reads; nil means that there is nothing to read.
	Stdin *os.File
	// Extra are the descriptors 3 and up of the program.
	Extra []*os.File
}

// A Command is a program that was started. Its methods may be called by many at a time.
type Command struct {
	proc   *os.Process
	exited chan struct{}
	state  string // how it ended; set before exited is closed
}

// Start starts a program. What it prints goes to the outputs of this process. It stays in
// the process group of this process, which the parent of a worker kills as a whole, and
// is killed by the kernel when this process ends.
//
// The error is an *actions.Error: NotFound when there is no such program, Invalid when it
// cannot be run.
func Start(cfg Config) (*Command, error) {
	path, err := find(cfg.Argv[0], cfg.Folder, cfg.Env)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:        path,
		Args:        cfg.Argv,
		Dir:         cfg.Dir,
		Env:         cfg.Env,
		Stdout:      os.Stdout,
		Stderr:      os.Stderr,
		ExtraFiles:  cfg.Extra,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if cfg.Stdin != nil {
		cmd.Stdin = cfg.Stdin
	}
	if cmd.Dir == "" {
		cmd.Dir = cfg.Folder
	}
	c := &Command{exited: make(chan struct{})}
	started := make(chan error, 1)
	go c.live(cmd, started)
	if err := <-started; err != nil {
		return nil, startError(cfg.Argv[0], err)
	}
	return c, nil
}

// startError says what can be done about a program that does not start.
func startError(name string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return actions.Errorf(actions.Invalid, "%s is neither a program nor a script that begins with #!: %w", name, err)
	case errors.Is(err, os.ErrPermission):
		return actions.Errorf(actions.Invalid, "%s may not be executed; chmod +x makes it a program: %w", name, err)
	}
	return actions.Errorf(actions.Invalid, "%s does not start: %w", name, err)
}

// live is the one goroutine that starts and reaps the program. It ends when the program
// has. It keeps its thread to itself for so long, because the kernel sends the Pdeathsig
// when the thread that started the program ends, and Go ends threads as it sees fit.
func (c *Command) live(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	c.proc = cmd.Process
	started <- nil
	err := cmd.Wait()
	if cmd.ProcessState != nil {
		c.state = cmd.ProcessState.String()
	} else {
		c.state = fmt.Sprint(err)
	}
	// What it left behind holds its pipes, its port and its memory of the GPU.
	sweep()
	close(c.exited)
}

// Done returns a channel that is closed when the program, and what it has started, has
// ended.
func (c *Command) Done() <-chan struct{} { return c.exited }

// State says how the program ended, "exit status 3" or "signal: killed". It may be called
// when Done is closed.
func (c *Command) State() string { return c.state }

// PID returns the id of the process.
func (c *Command) PID() int { return c.proc.Pid }

// Ended reports whether Done is closed.
func (c *Command) Ended() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// Kill kills the program and waits until it is gone.
func (c *Command) Kill() {
	_ = c.proc.Kill()
	<-c.exited
}

// Terminate asks the program to end.
func (c *Command) Terminate() { _ = c.proc.Signal(syscall.SIGTERM) }

// Environ returns the environment of this process with the variables of each map behind
// it. Of two of the same name the later counts, for Lookup as for a program.
func Environ(vars ...map[string]string) []string {
	env := os.Environ()
	for _, m := range vars {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			env = append(env, name+"="+m[name])
		}
	}
	return env
}
