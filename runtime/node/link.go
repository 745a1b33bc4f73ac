package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// errLost is in the chain of the error of a call that the node may have begun, and whose
// answer will not come.
var errLost = errors.New("the node has gone")

// A link is a relay's connection to its node, while it lasts.
type link struct {
	wire *wire
	// direct carries one call at a time, that of who has made taken true. It is nil where
	// the node has no direct way.
	direct *wire
	taken  atomic.Bool
	mem    *worker.Memory
	limit  int
	ttl    time.Duration
	// free has the lanes for calls, asking has the lane for questions.
	free   *lanes
	asking *lanes
	lanes  []lane
	// gone is closed when nothing will come any more, retired when the node takes no more
	// calls.
	gone, retired chan struct{}

	mu         sync.Mutex // guards what follows
	lastID     uint64     // with wire.mu held too, so that ids go out in their order
	users      int        // of the memory
	why        error      // set before gone or retired is closed
	over       bool       // gone is closed
	ending     bool       // retired is closed
	said       bool       // the node has said which calls it has read
	seen       uint64     // the last of them, and of those on the direct way
	seenDirect uint64
	// collecting are the goroutines that read answers which nobody waits for on the direct
	// way. None is added when over is set.
	collecting sync.WaitGroup
	freed      bool
}

// A lane is a call of a link. link.mu guards its fields, but not the channel.
type lane struct {
	id        uint64 // zero for none
	abandoned bool   // nobody waits for the answer
	answered  bool
	size      uint64     // of the request
	answer    chan frame // has room for the one answer
}

func newLink(w welcomed) (*link, error) {
	ordinary, err := newWire(w.in, w.out)
	var direct *wire
	if err == nil && w.directIn != nil {
		direct, err = newWire(w.directIn, w.directOut)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	n := w.mem.Lanes()
	l := &link{
		wire: ordinary, direct: direct, mem: w.mem, limit: w.limit, ttl: w.ttl, lanes: make([]lane, n),
		free: newLanes(n - 1), asking: &lanes{idle: []int{n - 1}}, gone: make(chan struct{}), retired: make(chan struct{}),
	}
	for i := range l.lanes {
		l.lanes[i].answer = make(chan frame, 1)
	}
	return l, nil
}

// run reads what the node sends until the connection has ended, and says that the relay is
// alive.
func (l *link) run(ctx context.Context, log *slog.Logger) {
	defer context.AfterFunc(ctx, l.wire.close)()
	l.wire.hear()
	var beating sync.WaitGroup
	beating.Go(func() { // ends with gone
		if l.wire.watch(l.ttl, l.gone, func() { _ = l.wire.post(&frame{typ: frameBeat}) }) {
			l.fail(fmt.Errorf("nothing was heard of it for %v", l.ttl))
		}
	})
	err := l.wire.read(l.take)
	switch {
	case gone(err):
		err = errors.New("it has ended the connection")
	default:
		err = fmt.Errorf("it broke the protocol: %w", err)
		log.Warn("the node is left", "error", err.Error())
	}
	l.finish(err)
	beating.Wait()
	l.collecting.Wait()
}

// take does what a frame of the node says.
func (l *link) take(f *frame) error {
	switch f.typ {
	case frameResult, frameError:
		return l.deliver(f)
	case frameBeat:
		return nil
	case frameBye:
		l.bye(f)
		return nil
	default:
		return fmt.Errorf("a frame of type %d, which is not a node's", f.typ)
	}
}

// deliver hands an answer to who waits for it, or frees the lane of who has left.
func (l *link) deliver(f *frame) error {
	if uint64(f.lane) >= uint64(len(l.lanes)) {
		return fmt.Errorf("an answer on lane %d of %d", f.lane, len(l.lanes))
	}
	l.mu.Lock()
	ln := &l.lanes[f.lane]
	if f.id == 0 || ln.id != f.id || ln.answered {
		l.mu.Unlock()
		return fmt.Errorf("an answer to call %d, which nobody waits for", f.id)
	}
	ln.answered = true
	abandoned := ln.abandoned
	l.mu.Unlock()
	if abandoned {
		l.give(int(f.lane), f.length)
		return nil
	}
	ln.answer <- *f
	return nil
}

// bye notes what the node says when it ends the connection, or will.
func (l *link) bye(f *frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.flags&finishesThis == 0 {
		l.said, l.seen, l.seenDirect = true, f.id, f.length
		return
	}
	if l.ending {
		return
	}
	l.ending = true
	if l.why == nil {
		l.why = errors.New("it is shutting down")
	}
	close(l.retired)
	if l.users == 0 {
		l.wire.close()
	}
}

// fail ends the connection because of an error of it.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.why == nil {
		l.why = err
	}
	l.mu.Unlock()
	l.wire.close()
}

// close ends the connection, both ways of it.
func (l *link) close() {
	l.wire.close()
	if l.direct != nil {
		l.direct.close()
	}
}

// finish notes that nothing more will come.
func (l *link) finish(err error) {
	l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = err
	}
	l.over = true
	close(l.gone)
	l.freeLocked()
}

// reason is why the connection has ended, or takes no calls.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		return errors.New("it has gone")
	}
	return l.why
}

// enter keeps the memory until leave, if there are calls yet.
func (l *link) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.ending {
		return false
	}
	l.users++
	return true
}

// leave takes back an enter.
func (l *link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	if l.ending && l.users == 0 {
		l.wire.close()
	}
	l.freeLocked()
}

// freeLocked unmaps the memory when nobody will look at it any more.
func (l *link) freeLocked() {
	if l.over && l.users == 0 && !l.freed {
		l.freed = true
		l.mem.Close()
	}
}

// give gives back a lane, and the pages of its request and of an answer of size bytes.
func (l *link) give(n int, size uint64) {
	l.mu.Lock()
	ln := &l.lanes[n]
	request := ln.size
	ln.id, ln.abandoned, ln.answered, ln.size = 0, false, false, 0
	l.mu.Unlock()
	l.mem.Trim(n, request, size)
	if n == len(l.lanes)-1 {
		l.asking.give(n)
		return
	}
	l.free.give(n)
}

// post sends a call, with the next id.
func (l *link) post(f *frame) error {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.mu.Lock()
	l.lastID++
	f.id = l.lastID
	l.lanes[f.lane].id, l.lanes[f.lane].size = f.id, f.length
	l.mu.Unlock()
	return l.wire.postLocked(f)
}

// lost makes the error of a call whose connection has ended: it may be sent again only if
// the node has said that it has not read it.
func (l *link) lost(f *frame, direct bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	if direct {
		seen = l.seenDirect
	}
	if l.said && f.id > seen {
		return errUnsent
	}
	err := errLost
	if l.why != nil {
		err = fmt.Errorf("%w: %w", errLost, l.why)
	}
	return &actions.Error{
		Code: actions.Unavailable, RetryAfter: time.Second, Err: err,
		Msg: "the node runtime has gone during the request, which may have run; it was not sent again",
	}
}

// abandon gives up waiting for an answer. It reports false if the answer is there.
func (l *link) abandon(f *frame) bool {
	l.mu.Lock()
	ln := &l.lanes[f.lane]
	if ln.answered {
		l.mu.Unlock()
		return false
	}
	ln.abandoned = true
	l.mu.Unlock()
	_ = l.wire.post(&frame{typ: frameCancel, id: f.id, lane: f.lane})
	return true
}
