package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pidfdSignalGroup is PIDFD_SIGNAL_PROCESS_GROUP.
const pidfdSignalGroup = 4

// fork has the zygote make a child with the given descriptors, from 1 on.
func (z *Zygote) fork(ctx context.Context, cfg *Config, files []*os.File) (*process, error) {
	if z.Stuck() {
		return nil, fmt.Errorf("%w: it does not answer", ErrNotForked)
	}
	body, err := birth(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()
	files = append(append([]*os.File{null}, files...), body)
	p, err := z.ask(ctx, packet{typ: zygoteFork}, files, z.cfg.ForkPatience)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			z.mu.Lock()
			z.stuck = true
			z.mu.Unlock()
		}
		return nil, fmt.Errorf("%w: %w", ErrNotForked, err)
	case p.typ == zygoteForked:
		return z.adopt(p), nil
	default:
		p.close()
		return nil, fmt.Errorf("%w: %s", ErrNotForked, p.text)
	}
}

// birth returns a file that says what the child is to be.
func birth(cfg *Config) (*os.File, error) {
	dir := cfg.Dir
	if dir == "" {
		dir = "." // that of this process, not that of the zygote
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	words := append([]string{filepath.Base(cfg.Argv[0]), dir}, latest(environ(cfg))...)
	for _, word := range words {
		if strings.IndexByte(word, 0) >= 0 {
			return nil, errors.New("a zero byte in the environment or in the name of the folder")
		}
		b.WriteString(word)
		b.WriteByte(0)
	}
	fd, err := unix.MemfdCreate("deepfn-birth", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "deepfn-birth")
	if _, err := f.Write(b.Bytes()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// latest returns the variables without those that later ones hide.
func latest(env []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, v := range slices.Backward(env) {
		if name, _, ok := strings.Cut(v, "="); ok && name != "" && !seen[name] {
			seen[name] = true
			kept = append(kept, v)
		}
	}
	return kept
}

// adopt makes the process of a child that was forked.
func (z *Zygote) adopt(born packet) *process {
	p := &process{pid: int(born.value), pidfd: born.fd, exited: make(chan struct{})}
	go p.attend(z)
	return p
}

// attend is the one goroutine that waits for the end of a forked process and has it
// reaped. It ends when the process has.
//
// As long as the zygote lives, the dead process is a zombie until the zygote is told to
// reap it, so that its id belongs to nobody else and the rest of its group can be killed.
// When the zygote has died, whoever inherited the process may have reaped it already. Its
// descriptor still means its group and no other; where the kernel is too old to take it
// for that, the id is used, which is that of the group as long as it has processes.
func (p *process) attend(z *Zygote) {
	ready := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(ready, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	p.signalLocked(-p.pid, unix.SIGKILL)
	p.reaped = true
	p.mu.Unlock()
	p.state = z.reap(p)
	_ = unix.Close(p.pidfd)
	close(p.exited)
}

// reap has a dead child reaped and returns how it ended.
func (z *Zygote) reap(p *process) string {
	answer, err := z.ask(context.Background(), packet{typ: zygoteReap, value: int32(p.pid)}, nil, reapPatience)
	if err == nil {
		answer.close()
		if answer.typ == zygoteReaped {
			return ended(syscall.WaitStatus(uint32(answer.value)))
		}
		err = errors.New(answer.text)
	}
	select {
	case <-z.dead:
		// If this process is the init of a container, it has inherited the child.
		_ = unix.Waitid(unix.P_PIDFD, p.pidfd, nil, unix.WEXITED|unix.WNOHANG, nil)
		return "killed with its fork server: " + z.why()
	default:
		return fmt.Sprintf("nobody knows how, because of its fork server: %v", err)
	}
}
