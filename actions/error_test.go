package actions_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestCodeOf shows that the first Error of a chain decides.
func TestCodeOf(t *testing.T) {
	busy := actions.Errorf(actions.Busy, "the queue is full")
	tests := map[string]struct {
		err  error
		want actions.Code
	}{
		"nil":     {nil, ""},
		"foreign": {io.EOF, actions.Internal},
		"context": {context.Canceled, actions.Internal},
		"itself":  {busy, actions.Busy},
		"wrapped": {fmt.Errorf("invoker: %w", busy), actions.Busy},
		"joined":  {errors.Join(io.EOF, busy), actions.Busy},
		"first":   {actions.Errorf(actions.Failed, "predict: %w", busy), actions.Failed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := actions.CodeOf(tt.err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestErrorf shows that the cause is found and the message is said once.
func TestErrorf(t *testing.T) {
	err := actions.Errorf(actions.Unavailable, "worker %d: %w", 7, io.ErrUnexpectedEOF)
	if want := "worker 7: unexpected EOF"; err.Error() != want || err.Msg != want {
		t.Errorf("got %q and %q, want %q", err.Error(), err.Msg, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("got no cause, want it in the chain")
	}
	if err := actions.Errorf(actions.Invalid, "plain"); err.Unwrap() != nil {
		t.Errorf("got the cause %v, want none", err.Unwrap())
	}
}

// TestErrorAsType shows how callers reach the fields, and what an Error without a
// message says.
func TestErrorAsType(t *testing.T) {
	bare := &actions.Error{Code: actions.Internal, Err: io.EOF}
	e, ok := errors.AsType[*actions.Error](fmt.Errorf("proxy: %w", bare))
	if !ok || e != bare || e.Error() != "EOF" {
		t.Errorf("got %v, %t, want the Error itself", e, ok)
	}
	if (&actions.Error{Msg: "shown", Err: io.EOF}).Error() != "shown" {
		t.Error("got the cause, want the message, which alone is for callers")
	}
	if _, ok := errors.AsType[*actions.Error](io.EOF); ok {
		t.Error("got an Error out of io.EOF, want none")
	}
}
