package relay

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/runtime/node"
)

// A Node says how the node runtime is reached.
type Node struct {
	// URL is unix:///path of the socket; empty for no node.
	URL string
	// TokenFile has the node's token. Empty is the file beside the socket, if there is one.
	TokenFile string
	// Wait is how long a request waits for a node that does not answer.
	Wait time.Duration
}

// AddFlags adds the flags of who calls a node.
func (n *Node) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&n.URL, "node", "", "node runtime that has the models, unix:///run/deepfn/node.sock (DEEPFN_NODE)")
	f.StringVar(&n.TokenFile, "token-file", "", "file with the token of the node (DEEPFN_NODE_TOKEN_FILE; default: SOCKET.token, if there is one)")
	f.DurationVar(&n.Wait, "node-wait", 5*time.Second, "time that a request waits for a node that does not answer (DEEPFN_NODE_WAIT)")
}

// Asked says whether a node is named.
func (n *Node) Asked(f *pflag.FlagSet, getenv func(string) string) bool {
	return n.URL != "" || !f.Changed("node") && getenv("DEEPFN_NODE") != ""
}

// Resolve fills in from the environment what no flag has set, and checks it. The error is a
// UsageError.
func (n *Node) Resolve(f *pflag.FlagSet, getenv func(string) string) error {
	if !f.Changed("node") {
		n.URL = getenv("DEEPFN_NODE")
	}
	if !f.Changed("token-file") {
		n.TokenFile = getenv("DEEPFN_NODE_TOKEN_FILE")
	}
	if err := duration(f, getenv, "node-wait", "DEEPFN_NODE_WAIT", &n.Wait); err != nil {
		return err
	}
	if n.Wait <= 0 {
		return UsageError{errors.New("--node-wait wants more than 0")}
	}
	if n.URL == "" {
		return nil
	}
	_, err := SocketPath("--node", n.URL)
	return err
}

// SocketPath returns the path in unix:///path, or a path itself, for the flag.
func SocketPath(flag, url string) (string, error) {
	path, isURL := strings.CutPrefix(url, "unix://")
	if !isURL && strings.Contains(url, "://") || !filepath.IsAbs(path) {
		return "", usagef("%s %s: want unix:///PATH of a socket, such as unix:///run/deepfn/node.sock", flag, url)
	}
	return filepath.Clean(path), nil
}

// DefaultTokenFile is where the token of the node at a socket is, unless somebody says
// otherwise.
func DefaultTokenFile(socket string) string { return socket + ".token" }

// connection says how a relay reaches the node.
func (n *Node) connection() (node.RelayConfig, error) {
	path, err := SocketPath("--node", n.URL)
	if err != nil {
		return node.RelayConfig{}, err
	}
	return node.RelayConfig{Path: path, Token: n.token(path), Patience: n.Wait}, nil
}

// token returns what reads the token of the node at a socket.
func (n *Node) token(socket string) func() ([]byte, error) {
	if n.TokenFile != "" {
		return func() ([]byte, error) { return ReadToken(n.TokenFile) }
	}
	return func() ([]byte, error) {
		token, err := ReadToken(DefaultTokenFile(socket))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // the node says so if it wants one
		}
		return token, err
	}
}

// HealthyNode returns nil if the node answers and takes relays, also when it has as many as
// it takes.
func (n *Node) HealthyNode(ctx context.Context) error {
	cfg, err := n.connection()
	if err != nil {
		return err
	}
	return node.Probe(ctx, cfg.Path, cfg.Token)
}
