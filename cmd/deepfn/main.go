// Command deepfn runs machine-learning models as serverless functions.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameSignal is how long a signal after the first counts as the first.
const sameSignal = 500 * time.Millisecond

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup wants it ignored
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// A second Ctrl-C ends the process at once; one that comes with the first is the same
	// signal: timeout sends its own to the process and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(sameSignal, stop) })
	code := run(ctx, program{
		args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv,
	})
	stop()
	os.Exit(code)
}
