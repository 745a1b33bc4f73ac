package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// startError kills the child and makes the error of Start of why it did not succeed.
func (w *Worker) startError(ctx context.Context, err error) error {
	if errors.Is(err, errHungUp) {
		// The child is ending, and how it ends says more than that it hung up.
		select {
		case <-w.dead:
		case <-ctx.Done():
		case <-time.After(endGrace):
			w.fail(errors.New("it closed its control pipe"))
		}
	}
	w.proc.kill()
	<-w.gone
	tail := w.logs.tailLines()
	if failure, ok := errors.AsType[*actions.Error](err); ok {
		failure.Logs = tail
		return failure
	}
	if errors.Is(err, errLeft) || ctx.Err() != nil {
		return leftError(ctx, "the start of the worker", tail)
	}
	what := err.Error()
	if ended := w.Err(); errors.Is(err, errHungUp) && ended != nil {
		what = strings.TrimPrefix(ended.Error(), "worker: ")
		if w.endedAlone() {
			err = fmt.Errorf("%w: %w", err, actions.ErrDiedLoading)
		}
	}
	if n := len(tail); n > 0 {
		what += ": " + tail[n-1].Text[:min(len(tail[n-1].Text), 500)]
	}
	return w.notStarted(what, err, tail)
}

// endedAlone says that the process has ended and nobody here has ended it.
func (w *Worker) endedAlone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended && w.cause == nil
}

// notStarted makes the error of a start. Callers may see its message, which does not say
// where things are on this machine; the cause does.
func (w *Worker) notStarted(what string, err error, tail []actions.LogLine) *actions.Error {
	return &actions.Error{
		Code: actions.Unavailable, Msg: fmt.Sprintf("worker: start %s: %s", filepath.Base(w.cfg.Argv[0]), what),
		Logs: tail, Err: fmt.Errorf("%s: %w", w.cfg.Argv[0], err),
	}
}

// reason is the text of an error without the file that it names.
func reason(err error) string {
	if inside, ok := errors.AsType[*fs.PathError](err); ok {
		return inside.Err.Error()
	}
	if inside, ok := errors.AsType[*exec.Error](err); ok {
		return inside.Err.Error()
	}
	return err.Error()
}
