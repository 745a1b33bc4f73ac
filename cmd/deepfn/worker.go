package main

import (
	"context"
	goruntime "runtime"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/actionloop"
	"github.com/deepfn/deepfn/runtime/bridge"
	"github.com/deepfn/deepfn/runtime/onnx"
	"github.com/deepfn/deepfn/runtime/worker"
)

// workerCommand is the child's side: deepfn starts itself with it.
func workerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "worker", Short: "The child programs that deepfn starts for its models", Hidden: true}
	for runtime, serve := range map[string]func(context.Context) error{
		actions.ONNX: func(ctx context.Context) error { return worker.Serve(ctx, onnx.New()) },
		actions.Executable: func(ctx context.Context) error {
			goruntime.GOMAXPROCS(1) // it waits for two others all the time; each thread that wakes costs
			p := actionloop.New()
			defer p.Close()
			return worker.Serve(ctx, p)
		},
		actions.HTTP: func(ctx context.Context) error {
			p := bridge.New()
			defer p.Close()
			return worker.Serve(ctx, p)
		},
	} {
		cmd.AddCommand(&cobra.Command{
			Use:   runtime,
			Short: "Serves a model of the runtime " + runtime + " to the deepfn that started it",
			Args:  args(cobra.NoArgs),
			RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context()) },
		})
	}
	return cmd
}
