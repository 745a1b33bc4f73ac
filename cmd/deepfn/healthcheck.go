package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/cmd/relay"
)

// healthcheckCommand asks the server of this machine whether it is alive, for the
// image's HEALTHCHECK: the image has no curl.
func healthcheckCommand(s *settings) *cobra.Command {
	var front relay.Front
	var node relay.Node
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Asks the server, or the node runtime, on this machine whether it is alive; exit code 0 if so",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			if cmd.Flags().Changed("node") {
				if err := node.Resolve(cmd.Flags(), s.getenv); err != nil {
					return err
				}
				return node.HealthyNode(ctx)
			}
			if err := front.ResolveListen(cmd.Flags(), s.getenv); err != nil {
				return err
			}
			return relay.Healthy(ctx, front.Listen)
		},
	}
	front.AddListenFlag(cmd.Flags())
	node.AddFlags(cmd.Flags())
	return cmd
}
