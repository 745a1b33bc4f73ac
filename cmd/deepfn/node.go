package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/cmd/relay"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/node"
)

// relay serves the models of a node runtime.
func (srv *server) relay(ctx context.Context) error {
	if err := errors.Join(srv.settings.resolve(), srv.resolveFront(), srv.node.Resolve(srv.flags, srv.getenv)); err != nil {
		return err
	}
	for _, name := range []string{
		"instances", "queue-depth", "idle-time", "timeout", "keep-alive", "release-before-pause", "gpu-headroom",
		"host-memory", "gpu-residency", "gpu-calls", "try", "openwhisk-api", "api-key", "batches", "batch-through",
	} {
		if srv.flags.Changed(name) {
			return usageError{fmt.Errorf("--%s is not for --node: the node runtime has the models; give it to 'deepfn node'", name)}
		}
	}
	log, err := srv.logger()
	if err != nil {
		return err
	}
	entry, err := relay.Entry(srv.getenv, log)
	if err != nil {
		return err
	}
	references, err := srv.storage.open(srv.MaxBody, log)
	if err != nil {
		return err
	}
	return relay.Run(ctx, relay.Config{
		Front: srv.Front, Node: srv.node, Model: srv.model, Warm: srv.warm, Entry: entry, Storage: references, Named: references.Poster,
		Getenv: srv.getenv, Stdout: srv.stdout, Stderr: srv.errOut, Log: log, Version: release,
	})
}

// A nodeServer is one run of the node command: a server whose pool others use, too.
type nodeServer struct {
	*server
	socket    string
	tokenFile string
	noToken   bool
	allow     []int
	maxRelays int
	lease     time.Duration
	keepCode  time.Duration
	models    []string
}

func nodeCommand(s *settings) *cobra.Command {
	n := &nodeServer{server: &server{settings: s}}
	cmd := &cobra.Command{
		Use:   "node [MODEL…]",
		Short: "Keeps models loaded for the relays of this machine: 'deepfn serve --node', deepfn-relay",
		Long: "Keeps models loaded for other processes of this machine, on a Unix socket. Each function's container\n" +
			"then has a relay in it, 'deepfn serve --node unix://SOCKET MODEL' or deepfn-relay, which may be frozen,\n" +
			"ended and started again while its model stays warm here. Every model of the catalog can be used; the\n" +
			"MODELs are kept warm. With --listen there is a front of its own, as that of 'deepfn serve'.\n\n" + exitHelp,
		Example: "  deepfn node\n  deepfn node ocr-line --socket /run/deepfn/node.sock --listen 127.0.0.1:9090",
		RunE: func(cmd *cobra.Command, args []string) error {
			n.stdout, n.errOut, n.flags, n.models = cmd.OutOrStdout(), cmd.ErrOrStderr(), cmd.Flags(), args
			return n.run(cmd.Context())
		},
	}
	n.addFlags(cmd.Flags())
	return cmd
}

func (n *nodeServer) addFlags(f *pflag.FlagSet) {
	n.AddFlags(f)
	f.Lookup("listen").Usage = "address of a front of its own, for operators and probes (DEEPFN_NODE_LISTEN; default none)"
	f.IntVar(&n.warm, "warm", 1, "instances of each MODEL to start at once and to keep (DEEPFN_WARM)")
	n.poolSettings.addFlags(f)
	n.storage.addFlags(f)
	n.batches.addFlags(f)
	f.StringVar(&n.socket, "socket", "", "path of the socket (DEEPFN_NODE_SOCKET; default deepfn/node.sock in XDG_RUNTIME_DIR;\nwithout that, of root, /run/deepfn/node.sock)")
	f.StringVar(&n.tokenFile, "token-file", "", "file with the token that relays have to know (DEEPFN_NODE_TOKEN_FILE; default SOCKET.token,\nwhich is made, for this user alone)")
	f.BoolVar(&n.noToken, "no-token", false, "take relays without a token: the socket's permissions and the user decide (DEEPFN_NODE_NO_TOKEN=1)")
	f.IntSliceVar(&n.allow, "allow-uid", nil, "user whose processes may be relays, beside this one and root (DEEPFN_NODE_ALLOW_UID)")
	f.IntVar(&n.maxRelays, "max-relays", 256, "most relays at one time (DEEPFN_NODE_MAX_RELAYS)")
	f.DurationVar(&n.lease, "lease", 10*time.Second, "time after which a relay of which nothing is heard has ended, or is frozen (DEEPFN_NODE_LEASE)")
	f.DurationVar(&n.keepCode, "keep-code", 0, "time that the code of a function is kept after its last relay (DEEPFN_NODE_KEEP_CODE; default --idle-time)")
}

// resolveNode fills in from the environment what no flag has set.
func (n *nodeServer) resolveNode() error {
	if err := n.resolve(); err != nil {
		return err
	}
	n.api.on = false // it is for one machine's users, not for those of a node
	if !n.flags.Changed("listen") {
		n.Listen = n.getenv("DEEPFN_NODE_LISTEN")
	}
	for _, v := range []struct{ flag, name string }{
		{"socket", "DEEPFN_NODE_SOCKET"},
		{"token-file", "DEEPFN_NODE_TOKEN_FILE"},
		{"no-token", "DEEPFN_NODE_NO_TOKEN"},
		{"allow-uid", "DEEPFN_NODE_ALLOW_UID"},
		{"max-relays", "DEEPFN_NODE_MAX_RELAYS"},
		{"lease", "DEEPFN_NODE_LEASE"},
		{"keep-code", "DEEPFN_NODE_KEEP_CODE"},
	} {
		text := n.getenv(v.name)
		if text == "" || n.flags.Changed(v.flag) {
			continue
		}
		if err := n.flags.Set(v.flag, text); err != nil {
			return usageError{fmt.Errorf("%s=%s: want a value of --%s: %w", v.name, text, v.flag, err)}
		}
	}
	switch {
	case n.noToken && n.tokenFile != "":
		return usageError{errors.New("--no-token and --token-file exclude each other")}
	case n.lease < time.Second || n.lease > time.Hour:
		return usageError{fmt.Errorf("--lease %v: want 1s to 1h", n.lease)}
	case n.maxRelays < 1:
		return usageError{errors.New("--max-relays wants 1 or more")}
	}
	if !n.flags.Changed("keep-code") {
		n.keepCode = n.idleTime
	}
	if n.keepCode < 0 {
		n.keepCode = math.MaxInt64
	}
	return n.resolveSocket()
}

// resolveSocket finds the path of the socket.
func (n *nodeServer) resolveSocket() error {
	runtimeDir := n.getenv("XDG_RUNTIME_DIR")
	switch {
	case n.socket != "":
	case filepath.IsAbs(runtimeDir):
		n.socket = filepath.Join(runtimeDir, "deepfn", "node.sock")
	case os.Geteuid() == 0:
		n.socket = "/run/deepfn/node.sock"
	default:
		return usageError{errors.New("no folder for the socket: name a path with --socket or DEEPFN_NODE_SOCKET")}
	}
	abs, err := filepath.Abs(strings.TrimPrefix(n.socket, "unix://"))
	n.socket = abs
	return err
}

// run serves until ctx ends, then drains.
func (n *nodeServer) run(ctx context.Context) error {
	if err := n.resolveNode(); err != nil {
		return err
	}
	h, err := n.open()
	if err != nil {
		return err
	}
	defer h.close()
	h.maxPayload, h.fork = max(n.MaxBody+1<<20, defaultPayload), n.instances > 1
	r := running{house: h, all: newFrozen(h.catalog)}
	r.models = r.all
	for i, name := range n.models {
		m, err := h.openModel(ctx, name)
		if err != nil {
			return err
		}
		r.all.keep(m)
		n.models[i] = m.Name
	}
	mode := fs.FileMode(0o600)
	if len(n.allow) > 0 {
		mode = 0o666 // who may come in, the node decides
	}
	socket, err := node.Listen(ctx, n.socket, mode)
	if err != nil {
		return err
	}
	err = n.serveNode(ctx, &r, socket)
	return errors.Join(err, socket.Close())
}

// serveNode serves relays on the socket, and people on a front if one is wanted.
func (n *nodeServer) serveNode(ctx context.Context, r *running, socket *node.Listener) (err error) {
	if n.Listen != "" {
		if r.listener, err = relay.Listen(ctx, n.Listen); err != nil {
			return err
		}
	}
	token, err := n.token()
	if err != nil {
		return err
	}
	if err := n.build(ctx, r); err != nil {
		return errors.Join(err, n.closeNode(ctx, r))
	}
	for _, model := range n.models {
		if err := r.pool.Keep(ctx, model, n.warm); err != nil {
			return errors.Join(err, n.closeNode(ctx, r))
		}
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var frontErr error
	if r.listener != nil {
		r.log.Info("listening", "address", r.listener.Addr().String())
		wg.Go(func() { // ends with serving
			frontErr = r.front.Serve(serving, r.listener)
			stop()
		})
	}
	r.log.Info("node listening", "socket", n.socket, "token", !n.noToken)
	nodeErr := n.node(r, token).Serve(serving, socket)
	stop()
	wg.Wait()
	return errors.Join(nodeErr, frontErr, n.closeNode(ctx, r))
}

// closeNode ends the instances, whose calls have ended.
func (n *nodeServer) closeNode(ctx context.Context, r *running) error {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.Grace)
	defer cancel()
	return r.close(closing)
}

// A sharedPool is the pool for relays: what one wants to be kept warm it may not keep from those
// who have requests. The models of the command line are the operator's.
type sharedPool struct{ *invoker.Invoker }

// Keep keeps n instances of the model as long as nobody needs their memory.
func (p sharedPool) Keep(ctx context.Context, model string, n int) error {
	return p.Want(ctx, model, n)
}

// Warm is Keep, and returns when the first can answer.
func (p sharedPool) Warm(ctx context.Context, model string, n int) error {
	return errors.Join(p.Want(ctx, model, n), p.Await(ctx, model))
}

// node makes the node of what was opened.
func (n *nodeServer) node(r *running, token func() ([]byte, error)) *node.Node {
	return node.New(node.Config{
		Pool: sharedPool{r.pool}, Catalog: r.all,
		Forget: func(model string) {
			r.pool.Forget(model)
			r.all.forget(model)
		},
		Token: token, AllowUIDs: n.allow, TTL: n.lease, MaxRelays: n.maxRelays, MaxPayload: r.maxPayload,
		KeepCode: n.keepCode, Grace: relay.GraceOf(n.Grace), Log: r.log,
	})
}
