package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
)

// healthcheckCommand asks the server of this machine whether it is alive, for the
// image's HEALTHCHECK: the image has no curl.
func healthcheckCommand(s *settings) *cobra.Command {
	srv := &server{settings: s}
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Asks the server on this machine whether it is alive; exit code 0 if so",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			srv.flags = cmd.Flags()
			if err := srv.resolveListen(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			return healthy(ctx, srv.listen)
		},
	}
	srv.addListenFlag(cmd.Flags())
	return cmd
}

// healthy returns nil if a server that listens on the address answers /healthz.
func healthy(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return usageError{fmt.Errorf("--listen %s: %w", address, err)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return usageError{fmt.Errorf("--listen %s: %w", address, err)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return actions.Errorf(actions.Unavailable, "no server answers: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		return actions.Errorf(actions.Unavailable, "the server answers %s", resp.Status)
	}
	return nil
}
