package main

import (
	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/runtime/onnx"
	"github.com/deepfn/deepfn/runtime/worker"
)

// workerCommand is the child's side: deepfn starts itself with it.
func workerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "worker", Short: "The child programs that deepfn starts for its models", Hidden: true}
	cmd.AddCommand(&cobra.Command{
		Use:   "onnx",
		Short: "Serves an ONNX model to the deepfn that started it",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return worker.Serve(cmd.Context(), onnx.New())
		},
	})
	return cmd
}
