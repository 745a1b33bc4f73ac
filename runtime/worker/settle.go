package worker

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// abandon leaves a call whose caller has gone to the goroutine outlast.
func (w *Worker) abandon(ln *lane, size uint64) {
	w.mu.Lock()
	w.abandoned++
	w.mu.Unlock()
	go w.outlast(ln, size)
}

// outlast waits for the end of a call without a caller. It ends when the child has
// answered or was killed, at the latest after CancelGrace.
func (w *Worker) outlast(ln *lane, size uint64) {
	w.mem.canceled(ln.index).Store(ln.id)
	if w.signals {
		w.proc.signal(w.proc.pid, unix.SIGUSR1)
	}
	ctx, cancel := withGrace(w.cfg.CancelGrace)
	defer cancel()
	answer, err := w.await(ctx, ln)
	switch {
	case err == nil:
		w.endLogs() // into the log: the caller has gone
		w.mem.trim(ln.index, size, answer.length)
	case errors.Is(err, errLeft):
		w.fail(fmt.Errorf("a call went on for %v after its caller had left", w.cfg.CancelGrace))
	default:
		_ = w.lost(ctx, err)
	}
	w.release(ln)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandoned--
	if w.abandoned == 0 && w.settled != nil {
		close(w.settled)
		w.settled = nil
	}
}

// Concurrency returns how many calls the child works on at the same time.
func (w *Worker) Concurrency() int { return len(w.lanes) }

// Settle waits until the calls that were abandoned by their callers have ended. It
// returns nil when the worker can be used again, else why it has died.
func (w *Worker) Settle() error {
	w.mu.Lock()
	if w.abandoned > 0 {
		if w.settled == nil {
			w.settled = make(chan struct{})
		}
		settled := w.settled
		w.mu.Unlock()
		<-settled
		w.mu.Lock()
	}
	dying := w.cause != nil || w.ended || w.closing
	w.mu.Unlock()
	if !dying {
		return nil
	}
	<-w.dead
	if err := w.Err(); err != nil {
		return err
	}
	return errors.New("worker: it was closed")
}
