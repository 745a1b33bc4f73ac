package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// A Pool runs requests on loaded models; *invoker.Invoker is one. Many may call it at the
// same time.
type Pool interface {
	// Invoke runs one request, and returns when ctx ends at the latest. The request's bytes
	// are the caller's again when it returns.
	Invoke(ctx context.Context, req actions.Request) (actions.Response, error)
	// Info returns, as JSON, what the runtime reported of the loaded model.
	Info(model string) json.RawMessage
	// Stats returns the state of each model's instances.
	Stats() []actions.PoolStats
	// Warm keeps n instances of a model, and returns when the first can answer. Keep is
	// Warm without the waiting, Cool takes it back.
	Warm(ctx context.Context, model string, n int) error
	Keep(ctx context.Context, model string, n int) error
	Cool(model string)
}

// A Catalog knows the models. Many may call it at the same time.
type Catalog interface {
	Models(ctx context.Context) ([]actions.Model, error)
	Model(ctx context.Context, name string) (actions.Model, error)
	// Import makes a model of code, by the name of the source.
	Import(ctx context.Context, source actions.Source) (actions.Model, error)
}

// Config says how a Node works. Pool, Catalog and Forget are required.
type Config struct {
	Pool    Pool
	Catalog Catalog
	// Forget takes the model of imported code out of pool and catalog.
	Forget func(model string)
	// Token returns what a relay has to know. It is called for each relay, so that the
	// token may change. Nil, and an empty token, ask for none.
	Token func() ([]byte, error)
	// AllowUIDs are the users whose processes may be relays, beside the node's own and root.
	AllowUIDs []int
	// TTL is for how long a lease lasts after the relay was heard last. The default is 10 s.
	TTL time.Duration
	// MaxRelays is the most relays at one time, probes not counted. The default is 256.
	MaxRelays int
	// Lanes is the most calls that a relay may have under way, 2 to 64, one of them for
	// questions. The default is 64.
	Lanes int
	// MaxPayload is the most bytes of a request or a response, with its names. The default
	// is 64 MiB.
	MaxPayload int64
	// KeepCode is how long imported code is remembered after the last lease that had it
	// has ended. Zero is not at all.
	KeepCode time.Duration
	// Grace is how long calls under way may go on after Serve's context has ended. The
	// default is 30 s; a negative value means that they are given up at once.
	Grace time.Duration
	// Log takes a line for each relay that comes or goes. The default discards.
	Log *slog.Logger

	// peer returns the user and the process at the other end of a connection. Tests have
	// others connect.
	peer func(*net.UnixConn) (unix.Ucred, error)
}

func (cfg Config) withDefaults() Config {
	if cfg.TTL <= 0 {
		cfg.TTL = 10 * time.Second
	}
	if cfg.MaxRelays <= 0 {
		cfg.MaxRelays = 256
	}
	if cfg.Lanes < 2 || cfg.Lanes > worker.MaxLanes {
		cfg.Lanes = worker.MaxLanes
	}
	if cfg.MaxPayload <= 0 {
		cfg.MaxPayload = 64 << 20
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Token == nil {
		cfg.Token = func() ([]byte, error) { return nil, nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.peer == nil {
		cfg.peer = peerOf
	}
	return cfg
}

// A Node serves a pool to relays.
type Node struct {
	cfg   Config
	codes *codes
	wants *wants
	// guests are the connections that are no relays yet, refusals those that do not become
	// some, unaccepted those that the system could not give.
	guests               guests
	refusals, unaccepted refusals

	mu     sync.Mutex // guards what follows
	leases map[*lease]struct{}
	// taken counts the relays, also those that get their welcome.
	taken    int
	draining bool
}

// New returns a Node, which does nothing before Serve.
func New(cfg Config) *Node {
	cfg = cfg.withDefaults()
	return &Node{
		cfg: cfg, codes: newCodes(cfg.Catalog.Import, cfg.Forget, cfg.KeepCode), wants: newWants(cfg.Pool),
		leases: map[*lease]struct{}{},
	}
}

// Serve serves the relays that connect until ctx ends. Then it closes the socket and tells
// the relays, lets the calls under way finish within Grace, and returns when all leases have
// ended.
func (n *Node) Serve(ctx context.Context, ln *Listener) error {
	living, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stopped := make(chan error, 1)
	unhook := context.AfterFunc(ctx, func() { stopped <- ln.Close() })
	var relays sync.WaitGroup
	err := n.accept(ln, func(conn *net.UnixConn) {
		n.guests.enter(conn)
		relays.Go(func() { n.serve(living, conn) }) // ends with the connection, or with living
	})
	if unhook() { // ctx lives: the listener broke
		err = errors.Join(err, ln.Close())
	} else {
		err = <-stopped
	}
	n.drain()
	timer := time.AfterFunc(max(n.cfg.Grace, 0), end)
	defer timer.Stop()
	relays.Wait()
	if left := n.refusals.rest(); left > 0 {
		n.cfg.Log.Warn("relays were refused since the last line on one", "left_out", left)
	}
	n.codes.close()
	return err
}

// accept hands each connection to serve, until the listener is closed.
func (n *Node) accept(ln *Listener, serve func(*net.UnixConn)) error {
	const pause = 50 * time.Millisecond
	for {
		conn, err := ln.AcceptUnix()
		switch {
		case err == nil:
			serve(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM),
			errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ECONNABORTED):
			if left, ok := n.unaccepted.admit(); ok {
				n.cfg.Log.Warn("relays cannot be accepted for now", "error", err.Error(), "left_out", left)
			}
			time.Sleep(pause)
		default:
			return err
		}
	}
}

// serve serves one connection, which is a relay's or is refused.
func (n *Node) serve(ctx context.Context, conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	cred, err := n.cfg.peer(conn)
	if err == nil {
		err = n.allowed(cred)
	}
	if err != nil {
		n.guests.leave(conn)
		n.refuse(conn, cred, err)
		return
	}
	l, err := n.greet(conn)
	if err != nil {
		n.refuse(conn, cred, err)
		return
	}
	if l == nil {
		return // it was a probe
	}
	defer n.give()
	_ = conn.Close() // the pipes say when the relay has gone
	l.log = n.cfg.Log.With("relay_pid", cred.Pid, "relay_uid", cred.Uid)
	l.log.Info("relay connected")
	l.log.Info("relay gone", "reason", l.run(ctx))
}

// peerOf asks the system who is at the other end.
func peerOf(conn *net.UnixConn) (unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return unix.Ucred{}, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return unix.Ucred{}, err
	}
	return *cred, nil
}

// allowed refuses a user who may not use the node. Root may: it could anyway.
func (n *Node) allowed(cred unix.Ucred) error {
	uid := int(cred.Uid)
	if uid == 0 || uid == os.Geteuid() || slices.Contains(n.cfg.AllowUIDs, uid) {
		return nil
	}
	return actions.Errorf(actions.Forbidden, "the node is not for processes of the user %d; start it with --allow-uid %d", uid, uid)
}

// take counts a relay.
func (n *Node) take() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.draining:
		return drainingError()
	case n.taken >= n.cfg.MaxRelays:
		return &actions.Error{
			Code: actions.Unavailable, RetryAfter: time.Second,
			Msg: "the node has as many relays as it takes; start it with a larger --max-relays",
		}
	}
	n.taken++
	return nil
}

func (n *Node) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken--
}

// refuse tells a process why it is no relay.
func (n *Node) refuse(conn *net.UnixConn, cred unix.Ucred, err error) {
	if left, ok := n.refusals.admit(); ok {
		n.cfg.Log.Warn("relay refused", "relay_pid", cred.Pid, "relay_uid", cred.Uid, "error", withCause(err), "left_out", left)
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		_ = sendRefusal(conn, e)
	}
}

// drain tells the relays that the node ends.
func (n *Node) drain() {
	n.mu.Lock()
	n.draining = true
	leases := make([]*lease, 0, len(n.leases))
	for l := range n.leases {
		leases = append(leases, l)
	}
	n.mu.Unlock()
	for _, l := range leases {
		l.drain()
	}
}

// enter notes a lease, unless the node is draining.
func (n *Node) enter(l *lease) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.draining {
		return false
	}
	n.leases[l] = struct{}{}
	return true
}

func (n *Node) leave(l *lease) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.leases, l)
}

// Relays is how many relays there are.
func (n *Node) Relays() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.leases)
}

func drainingError() *actions.Error {
	return &actions.Error{
		Code: actions.Unavailable, RetryAfter: time.Second,
		Msg: "the node is shutting down; try again when another has taken its place",
	}
}
