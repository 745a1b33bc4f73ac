package worker_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/workertest"
)

func TestServeByHand(t *testing.T) {
	argv, env := workertest.Command()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil {
		t.Error("it ended well")
	}
	if !strings.Contains(stderr.String(), "not meant to be run by hand") {
		t.Errorf("got %q", stderr.String())
	}
}

func TestSetupTooLarge(t *testing.T) {
	cfg := withSetup(workertest.Setup{Error: strings.Repeat("x", 100_000)})
	cfg.MaxPayload = 1
	_, err := worker.Start(t.Context(), cfg)
	wantCode(t, err, actions.TooLarge)
}

// A context that has ended gets no call and no process.
func TestEndedContext(t *testing.T) {
	w := start(t, config())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Call(ctx, actions.Request{})
	wantCode(t, err, actions.Canceled)
	_, err = worker.Start(ctx, config())
	wantCode(t, err, actions.Canceled)
	echo(t, w)
}
