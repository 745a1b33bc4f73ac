package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

// Listen opens the address, with an error that says what to do when it is taken.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var cfg net.ListenConfig
	ln, err := cfg.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf(
			"another program listens on %s already; stop it, or choose another address with --listen, such as --listen 127.0.0.1:9000", address)}
	case errors.Is(err, os.ErrPermission):
		return nil, &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf(
			"this user may not listen on %s; choose a port above 1023 with --listen", address)}
	default:
		return nil, usagef("--listen %s: %w; write it as HOST:PORT, such as 127.0.0.1:9000", address, err)
	}
}

// Healthy returns nil if a server that listens on the address answers /healthz.
func Healthy(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("--listen %s: %w", address, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return usagef("--listen %s: %w", address, err)
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
