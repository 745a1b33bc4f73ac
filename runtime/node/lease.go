package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/deepfn/deepfn/runtime/worker"
)

// A lease is one relay, while it is there.
type lease struct {
	node *Node
	wire *wire
	// direct carries one call at a time, which runs where it is read.
	direct *wire
	mem    *worker.Memory
	log    *slog.Logger
	// calls are on goroutines of their own.
	calls sync.WaitGroup

	mu    sync.Mutex // guards what follows
	lanes []slot
	// seen is the id of the last call that was read, seenDirect of the direct ones.
	seen       uint64
	seenDirect uint64
	running    int
	// silent says that no answer is sent any more, draining that no call is taken.
	silent, draining bool
	expired          bool // nothing was heard
	reason           string
	// told is what the relay knows of what models report, by model.
	told map[string]json.RawMessage
	// held is the code that the relay has imported, by the names of its models; room is
	// what it takes.
	held map[string]*code
	room codeRoom
}

// A slot is a lane of a lease, and what runs on it. lease.mu guards it.
type slot struct {
	id     uint64 // zero for none
	cancel context.CancelFunc
	last   uint64 // the call before
	left   uint64 // a call that was canceled when there was none of this id
	// size is how much of the memory of answers may be in use since the time answered, when
	// it is much.
	size     uint64
	answered time.Time
}

// newLease makes a lease over its ends of pipes, which it closes.
func newLease(n *Node, p, direct pipes) (*lease, error) {
	w, err := newWire(p.in, p.out)
	if err != nil {
		return nil, err
	}
	d, err := newWire(direct.in, direct.out)
	if err != nil {
		return nil, err
	}
	mem, err := worker.NewMemory(n.cfg.Lanes, n.cfg.MaxPayload+extraRoom)
	if err != nil {
		return nil, err
	}
	return &lease{
		node: n, wire: w, direct: d, mem: mem, lanes: make([]slot, n.cfg.Lanes),
		told: map[string]json.RawMessage{}, held: map[string]*code{},
	}, nil
}

// run serves the relay until it has gone, or ctx ends, and gives back what it held. It
// returns why the lease has ended.
func (l *lease) run(ctx context.Context) string {
	// Calls are canceled when the relay has been told that it will get no answers.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan struct{})
	var watching sync.WaitGroup
	if l.node.enter(l) {
		l.wire.hear()
		defer context.AfterFunc(ctx, func() { l.end("the node ends", true) })()
		watching.Go(func() { // ends with done
			if l.wire.watch(l.node.cfg.TTL, done, l.trim) {
				l.expire()
			}
		})
		l.calls.Go(func() { // ends with the connection
			l.over(l.direct.read(func(f *frame) error { return l.runDirect(calls, f) }))
		})
		l.over(l.wire.read(func(f *frame) error { return l.take(calls, f) }))
	} else {
		l.end("the node ends", true)
	}
	cancel()
	close(done)
	watching.Wait()
	l.calls.Wait()
	l.release(context.WithoutCancel(ctx))
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// expire ends the lease of a relay of which nothing was heard.
func (l *lease) expire() {
	l.mu.Lock()
	l.expired = true
	l.mu.Unlock()
	l.end("nothing was heard of it for its time to live", true)
}

// over notes why nothing is read any more.
func (l *lease) over(err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errUnsent): // it left what was read after it had gone
		l.end("it has ended", false)
	case gone(err):
		l.end("the connection has ended", false)
	default:
		l.end("it broke the protocol: "+err.Error(), true)
	}
}

// end ends the connection, which makes run return. The relay is told, if it can still hear.
func (l *lease) end(reason string, tell bool) {
	l.mu.Lock()
	if l.reason == "" {
		l.reason = reason
	}
	tell = tell && !l.silent
	l.silent = true
	seen, direct := l.seen, l.seenDirect
	l.mu.Unlock()
	if tell {
		_ = l.wire.post(&frame{typ: frameBye, id: seen, length: direct})
	}
	l.wire.close()
	l.direct.close()
}

// drain tells the relay that no more calls are taken, and ends the lease when those under
// way have.
func (l *lease) drain() {
	l.mu.Lock()
	l.draining = true
	seen, direct, idle := l.seen, l.seenDirect, l.running == 0
	l.mu.Unlock()
	_ = l.wire.post(&frame{typ: frameBye, flags: finishesThis, id: seen, length: direct})
	if idle {
		l.end("the node ends", false)
	}
}

// release gives back what the relay held.
func (l *lease) release(ctx context.Context) {
	l.node.wants.end(ctx, l)
	l.mu.Lock()
	held, expired := l.held, l.expired
	l.held = nil
	l.mu.Unlock()
	for name, entry := range held {
		l.node.codes.release(name, entry)
	}
	l.node.leave(l)
	if expired { // it has the memory mapped still, if it is frozen
		for i := range l.lanes {
			l.revoke(i, everyCall, uint64(l.mem.Limit()))
		}
	}
	l.mem.Close()
}

// everyCall in the word of a lane revokes each answer on it.
const everyCall = ^uint64(0)

// revoke gives back the pages of a lane. The relay, which may not have read its answer to
// call id yet, finds out by the word of the lane.
func (l *lease) revoke(lane int, id, size uint64) {
	l.mem.Word(lane).Store(id)
	l.mem.Trim(lane, size, size)
}

// trim gives back the pages of large answers that the relay has had long enough.
func (l *lease) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.lanes {
		s := &l.lanes[i]
		if s.id == 0 && s.size > 0 && time.Since(s.answered) > 2*l.node.cfg.TTL {
			l.revoke(i, s.last, s.size)
			s.size = 0
		}
	}
}

// take does what a frame of the relay says.
func (l *lease) take(ctx context.Context, f *frame) error {
	switch f.typ {
	case frameCall, frameAsk:
		return l.begin(ctx, f)
	case frameCancel:
		return l.cancel(f)
	case frameBeat:
		return l.wire.post(f)
	default:
		return fmt.Errorf("a frame of type %d, which is not a relay's", f.typ)
	}
}

// begin checks a call and runs it.
func (l *lease) begin(ctx context.Context, f *frame) error {
	ctx, cancel, err := l.prepare(ctx, f, &l.seen)
	if err != nil {
		return err
	}
	call := *f
	l.calls.Go(func() { // ends when the pool has answered, soon after ctx has ended
		defer cancel()
		l.call(ctx, &call, l.wire)
	})
	return nil
}

// runDirect checks a call of the direct way, and runs it here: nobody has to be woken.
func (l *lease) runDirect(ctx context.Context, f *frame) error {
	if f.typ != frameCall {
		return fmt.Errorf("a frame of type %d on the direct way", f.typ)
	}
	ctx, cancel, err := l.prepare(ctx, f, &l.seenDirect)
	if err != nil {
		return err
	}
	defer cancel()
	l.call(ctx, f, l.direct)
	return nil
}

// prepare checks a call and makes its context.
func (l *lease) prepare(ctx context.Context, f *frame, seen *uint64) (context.Context, context.CancelFunc, error) {
	if uint64(f.lane) >= uint64(len(l.lanes)) || f.length > uint64(l.mem.Limit()) {
		return nil, nil, fmt.Errorf("call %d of %d bytes on lane %d", f.id, f.length, f.lane)
	}
	var cancel context.CancelFunc
	if deadline := f.times[0]; deadline > 0 {
		ctx, cancel = context.WithDeadline(ctx, time.Unix(0, deadline))
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	if err := l.enter(f, cancel, seen); err != nil {
		cancel()
		return nil, nil, err
	}
	return ctx, cancel, nil
}

// enter notes that a call runs, which came on the way whose last call seen is.
func (l *lease) enter(f *frame, cancel context.CancelFunc, seen *uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.lanes[f.lane]
	if l.silent {
		return net.ErrClosed // the relay has been told that this call was not read
	}
	if s.id != 0 || f.id <= *seen {
		return fmt.Errorf("call %d on lane %d after %d, with %d in progress there", f.id, f.lane, *seen, s.id)
	}
	s.id, s.cancel, *seen = f.id, cancel, f.id
	if s.left == f.id {
		cancel()
	}
	l.running++
	return nil
}

// cancel ends a call that nobody waits for; it may have been answered already.
func (l *lease) cancel(f *frame) error {
	if uint64(f.lane) >= uint64(len(l.lanes)) {
		return fmt.Errorf("a cancel on lane %d", f.lane)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.lanes[f.lane]
	if s.id != 0 && s.id == f.id {
		s.cancel()
	} else {
		s.left = f.id // the call is on the direct way still
	}
	return nil
}

// leave notes that a call has ended, before it is answered: that allows the relay to use
// the lane again. It reports whether the answer is to be sent, and whether the lease then
// ends.
func (l *lease) leave(f *frame) (answers, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.lanes[f.lane]
	s.id, s.cancel, s.last = 0, nil, s.id
	if f.length > largeAnswer {
		s.size, s.answered = max(s.size, f.length), time.Now()
	}
	l.running--
	return !l.silent, l.draining && l.running == 0
}

// largeAnswer is from where on the memory of an answer is worth looking after.
const largeAnswer = 1 << 20
