package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy"
)

// defaultRelayImage is what Dockerfile.relay says that its image is called.
const defaultRelayImage = "deepfn-relay"

// A nodeRollout is one run of deploy node.
type nodeRollout struct {
	*settings
	out      io.Writer
	manifest string
	deploy.NodeDeployment
}

func deployNodeCommand(s *settings) *cobra.Command {
	r := &nodeRollout{settings: s}
	cmd := &cobra.Command{
		Use:   "node [MODEL]...",
		Short: "Prints how to run the node runtime, and relays of the MODELs, on a platform",
		Long: "Prints how to run the node runtime on each node of a platform, and relays of the MODELs: for\n" +
			"Kubernetes a DaemonSet, for Knative the Services of the relays, for OpenWhisk the variables of an\n" +
			"invoker. Nothing is sent anywhere.\n\n" + exitHelp,
		Example: "  deepfn deploy node --manifest kubernetes --image registry.example.org/me/deepfn:0.1.0 | kubectl apply -f -\n" +
			"  deepfn deploy node ocr-line --manifest knative --relay-image registry.example.org/me/deepfn-relay:0.1.0\n" +
			"  deepfn deploy node ocr-line --manifest openwhisk",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.out = cmd.OutOrStdout()
			return r.run(cmd.Context(), args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.manifest, "manifest", "", "platform: "+strings.Join(deploy.NodePlatforms(), ", "))
	f.StringVar(&r.Image, "image", "", "image of the node runtime (DEEPFN_IMAGE; default "+defaultImage+")")
	f.StringVar(&r.RelayImage, "relay-image", defaultRelayImage, "image of the relays")
	f.StringVar(&r.Namespace, "namespace", "deepfn", "namespace of Kubernetes")
	f.StringVar(&r.Socket, "socket", "/run/deepfn/node.sock", "path of the socket on the nodes")
	f.IntVar(&r.GPUs, "gpus", 1, "GPUs of a node that the node runtime has; 0: none")
	return cmd
}

// run prints the manifest.
func (r *nodeRollout) run(ctx context.Context, models []string) error {
	if r.manifest == "" {
		return usageError{errors.New("deploy node: name a platform with --manifest, one of " + strings.Join(deploy.NodePlatforms(), ", "))}
	}
	if r.Image == "" {
		r.Image = first(r.getenv("DEEPFN_IMAGE"), defaultImage)
	}
	h, err := r.open()
	if err != nil {
		return err
	}
	defer h.close()
	for _, name := range models {
		m, err := h.catalog.Model(ctx, name)
		if err != nil {
			return err
		}
		if m.Name != name {
			return actions.Errorf(actions.Invalid, "the model %s is called %s", name, m.Name)
		}
	}
	r.Models, r.Release = models, release
	out, err := r.Manifest(r.manifest)
	if err != nil {
		return err
	}
	if _, err := r.out.Write(out); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}
