package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The frames of a zygote, in the order of a conversation.
const (
	zygoteReady   byte = 1
	zygoteUnsafe  byte = 2
	zygoteFork    byte = 3
	zygoteForked  byte = 4
	zygoteRefused byte = 5
	zygoteReap    byte = 6
	zygoteReaped  byte = 7
)

const (
	defaultForkPatience = 5 * time.Second
	// reapPatience is how long a zygote may take to reap a child. Without its answer
	// nobody learns how the child ended.
	reapPatience = time.Second
)

var (
	// ErrNotForked is in the chain of an error of Start when the Zygote made no child.
	ErrNotForked = errors.New("the fork server made no child")
	// ErrUnsafe is in the chain of an error of StartZygote when the program says that
	// what it has loaded does not survive a fork.
	ErrUnsafe = errors.New("a fork would not be safe")
)

// ZygoteConfig says which program a Zygote is.
type ZygoteConfig struct {
	// Argv, Env and Dir are those of Config.
	Argv []string
	Env  []string
	Dir  string
	// ForkPatience is how long a fork may take until Start is told ErrNotForked. The
	// default is 5 seconds.
	ForkPatience time.Duration
	// Log takes what the program prints, but not what its children do. The default is to
	// discard it.
	Log *slog.Logger
}

// A Zygote is a process that has loaded what many workers need, and forks them. Its
// protocol is in the documentation of the package. Its methods may be called by many at
// the same time.
type Zygote struct {
	cfg     ZygoteConfig
	proc    *process
	conn    *net.UnixConn
	logs    *logs
	note    string        // what it said when it was ready
	first   chan packet   // takes the first packet
	dead    chan struct{} // closed when the process was reaped
	deaf    chan struct{} // closed when listen has ended
	gone    chan struct{} // closed when all that it held was given back
	sending sync.Mutex    // guards the deadline of a write

	mu      sync.Mutex // guards everything below
	lastID  uint32
	waiting map[uint32]chan packet // each has room for its packet
	stuck   bool                   // it did not answer a fork in time, nor anything since
	cause   error                  // why it was killed
}

// StartZygote starts a Zygote and waits until it is ready to fork. The context bounds the
// start alone. ErrUnsafe is in the chain of the error if it must not fork.
func StartZygote(ctx context.Context, cfg ZygoteConfig) (*Zygote, error) {
	if len(cfg.Argv) == 0 {
		return nil, errors.New("worker: a ZygoteConfig needs an Argv")
	}
	if cfg.ForkPatience <= 0 {
		cfg.ForkPatience = defaultForkPatience
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	z := &Zygote{
		cfg: cfg, first: make(chan packet, 1), waiting: map[uint32]chan packet{},
		dead: make(chan struct{}), deaf: make(chan struct{}), gone: make(chan struct{}),
	}
	if err := z.launch(); err != nil {
		return nil, fmt.Errorf("worker: start fork server %s: %w", cfg.Argv[0], err)
	}
	if err := z.load(ctx); err != nil {
		z.fail(err)
		<-z.gone
		select {
		case p := <-z.first: // it came too late
			p.close()
		default:
		}
		if tail := z.logs.tailLines(); len(tail) > 0 && !errors.Is(err, ErrUnsafe) {
			err = fmt.Errorf("%w: %.500s", err, tail[len(tail)-1].Text)
		}
		return nil, fmt.Errorf("worker: start fork server %s: %w", cfg.Argv[0], err)
	}
	z.logs.loaded()
	return z, nil
}

// launch starts the process with its socket and its pipes.
func (z *Zygote) launch() (err error) {
	var files []*os.File // the child's ends, and ours until all is well
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "zygote"), os.NewFile(uintptr(pair[1]), "zygote")
	files = append(files, ours, theirs)
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	z.conn, _ = conn.(*net.UnixConn)
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			_ = conn.Close()
			return err
		}
		files = append(files, r, w)
	}
	stdout, stderr := files[2:4], files[4:6]
	cfg := Config{Argv: z.cfg.Argv, Env: z.cfg.Env, Dir: z.cfg.Dir}
	if z.proc, err = spawn(&cfg, stdout[1], stderr[1], []*os.File{theirs}); err == nil {
		if z.logs, err = newLogs(z.cfg.Log, nil, stdout[0], stderr[0]); err != nil {
			z.proc.kill()
		}
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	files = []*os.File{ours, theirs, stdout[1], stderr[1]}
	go z.listen()
	go z.live()
	return nil
}

// load waits until the program is ready.
func (z *Zygote) load(ctx context.Context) error {
	var p packet
	select {
	case p = <-z.first:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-z.deaf:
		select {
		case p = <-z.first:
		default:
			return z.ending()
		}
	}
	p.close()
	switch p.typ {
	case zygoteReady:
		z.note = p.text
		return nil
	case zygoteUnsafe:
		return fmt.Errorf("%w: %s", ErrUnsafe, p.text)
	default:
		return fmt.Errorf("it began with a packet of type %d", p.typ)
	}
}

// ending returns how a program that has hung up ends.
func (z *Zygote) ending() error {
	timer := time.NewTimer(endGrace)
	defer timer.Stop()
	select {
	case <-z.dead:
		return errors.New(z.why())
	case <-timer.C:
		return errors.New("it closed its socket")
	}
}

// why returns how the process ended, after it has.
func (z *Zygote) why() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.cause != nil {
		return fmt.Sprintf("it was killed: %v", z.cause)
	}
	return "it ended: " + z.proc.state
}

// live is the one goroutine that notices the end of the process and clears up after it.
// It ends when the process has and listen has read its last words.
func (z *Zygote) live() {
	<-z.proc.exited
	z.logs.drain(drainGrace)
	close(z.dead)
	_ = z.conn.SetReadDeadline(time.Now().Add(drainGrace))
	<-z.deaf
	_ = z.conn.Close()
	z.logs.close()
	close(z.gone)
}

// listen is the one goroutine that reads what the program says. It ends when the program
// hangs up, or breaks the protocol and is killed for it.
func (z *Zygote) listen() {
	defer close(z.deaf)
	for begun := false; ; begun = true {
		p, err := readPacket(z.conn)
		if err != nil {
			if !errors.Is(err, errHungUp) {
				z.fail(fmt.Errorf("it broke the protocol: %w", err))
			}
			return
		}
		if !begun {
			z.first <- p
			continue
		}
		z.deliver(p)
	}
}

// deliver hands a packet to who waits for it. A child that nobody waits for any more is
// ended.
func (z *Zygote) deliver(p packet) {
	z.mu.Lock()
	z.stuck = false
	to := z.waiting[p.id]
	delete(z.waiting, p.id)
	if to != nil {
		to <- p
	}
	z.mu.Unlock()
	if to == nil {
		z.discard(p)
	}
}

func (z *Zygote) discard(p packet) {
	if p.typ == zygoteForked && p.fd >= 0 {
		z.adopt(p).kill()
		return
	}
	p.close()
}

// ask sends a packet and waits for the answer to it.
func (z *Zygote) ask(ctx context.Context, p packet, files []*os.File, patience time.Duration) (packet, error) {
	answer := make(chan packet, 1)
	z.mu.Lock()
	z.lastID++
	p.id = z.lastID
	z.waiting[p.id] = answer
	z.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	err := z.send(p, files, patience)
	if err == nil {
		select {
		case got := <-answer:
			return got, nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-z.dead:
			err = errors.New(z.why())
		case <-timer.C:
			err = fmt.Errorf("it did not answer within %v", patience)
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.waiting, p.id)
	select {
	case got := <-answer: // in the last moment
		return got, nil
	default:
		return packet{}, err
	}
}

func (z *Zygote) send(p packet, files []*os.File, patience time.Duration) error {
	z.sending.Lock()
	defer z.sending.Unlock()
	_ = z.conn.SetWriteDeadline(time.Now().Add(patience))
	return p.write(z.conn, files)
}

// PID returns the id of the process.
func (z *Zygote) PID() int { return z.proc.pid }

// Note returns what the program said when it was ready: a line for each thing that it
// could not load, or nothing.
func (z *Zygote) Note() string { return strings.TrimSpace(z.note) }

// Done returns a channel that is closed when the process has ended and was reaped.
func (z *Zygote) Done() <-chan struct{} { return z.dead }

// Stuck says that the process did not answer when a child was wanted, nor later.
func (z *Zygote) Stuck() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.stuck
}

// Close ends the process and waits until it is gone. Workers that it has forked end with
// it. Close may be called more than once. It returns nil.
func (z *Zygote) Close() error {
	_ = z.conn.CloseWrite()
	timer := time.NewTimer(endGrace)
	defer timer.Stop()
	select {
	case <-z.dead:
	case <-timer.C:
		z.proc.kill()
	}
	<-z.gone
	return nil
}

// fail kills the process. The first cause is the one that counts.
func (z *Zygote) fail(cause error) {
	z.mu.Lock()
	if z.cause == nil {
		z.cause = cause
	}
	z.mu.Unlock()
	z.proc.kill()
}
