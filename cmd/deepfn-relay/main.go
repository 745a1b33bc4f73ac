// Command deepfn-relay is deepfn in the container of a function: a front alone, whose models
// are those of the node runtime on the same machine.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/deepfn/deepfn/cmd/relay"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := relay.Main(ctx, relay.Program{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv})
	stop()
	os.Exit(code)
}
