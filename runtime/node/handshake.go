package node

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

const (
	// greetTime is how long a handshake may take.
	greetTime = 2 * time.Second
	// maxRefusal is how long the JSON of a refusal may be.
	maxRefusal = 4 << 10
	// maxLimit bounds what a node may say that a payload has, and maxTTL its time to live.
	maxLimit = 1 << 36
	maxTTL   = time.Hour
)

// A refusal is an actions.Error as it crosses in the handshake.
type refusal struct {
	Code         actions.Code `json:"code"`
	Msg          string       `json:"msg"`
	RetryAfterMS int64        `json:"retry_after_ms,omitempty"`
}

// signed is what both sides of a handshake have signed with the token.
type signed struct {
	token       []byte
	node, relay [nonceSize]byte
}

func (s *signed) proof(side string) [sha256.Size]byte { return prove(s.token, side, &s.node, &s.relay) }

// greet is the node's side of the handshake. An *actions.Error is for the relay to know.
// The lease is nil for who has only asked whether the node is there; else it has taken a
// place, which is the caller's to give back.
func (n *Node) greet(conn *net.UnixConn) (*lease, error) {
	s, flags, err := n.challenge(conn)
	if err != nil {
		return nil, err
	}
	if flags&onlyProbes != 0 {
		return nil, n.answerProbe(conn, s)
	}
	if err := n.take(); err != nil {
		return nil, err
	}
	l, err := n.welcome(conn, s)
	if err != nil {
		n.give()
	}
	return l, err
}

// challenge has the other side prove that it knows the token, and returns the flags of its
// hello. From then on it is no guest.
func (n *Node) challenge(conn *net.UnixConn) (*signed, uint8, error) {
	hello, s, err := n.hello(conn)
	if !n.guests.leave(conn) {
		err = crowdedError()
	}
	if err != nil {
		return nil, 0, err
	}
	if len(s.token) > 0 && !proves(hello.proof, s.proof("relay")) {
		if hello.flags&hasToken == 0 {
			return nil, 0, actions.Errorf(actions.Unauthorized, "the node wants its token; give the relay the same --token-file")
		}
		return nil, 0, actions.Errorf(actions.Unauthorized, "the relay has another token than the node; give both the same --token-file")
	}
	return s, hello.flags, nil
}

// hello sends the challenge and reads the hello.
func (n *Node) hello(conn *net.UnixConn) (greeting, *signed, error) {
	token, err := n.cfg.Token()
	if err != nil { // what is wrong with it is not for others to know
		return greeting{}, nil, &actions.Error{
			Code: actions.Unavailable, RetryAfter: time.Second, Err: err,
			Msg: "the node cannot read its token; its log says why",
		}
	}
	s := &signed{token: token, node: newNonce()}
	if err := send(conn, &greeting{typ: frameChallenge, flags: tokenFlag(token), nonce: s.node}); err != nil {
		return greeting{}, nil, err
	}
	hello, err := receive(conn, frameHello)
	s.relay = hello.nonce
	return hello, s, err
}

// answerProbe tells a probe, which gets no lease, whether the node takes relays.
func (n *Node) answerProbe(conn *net.UnixConn, s *signed) error {
	n.mu.Lock()
	draining := n.draining
	n.mu.Unlock()
	if draining {
		return drainingError()
	}
	return send(conn, &greeting{typ: frameWelcome, proof: s.proof("node")})
}

// welcome makes the lease of a relay, and gives it its ends of it.
func (n *Node) welcome(conn *net.UnixConn, s *signed) (*lease, error) {
	p, err := newPipes()
	if err != nil {
		return nil, shortError(err)
	}
	defer p.closeTheirs()
	direct, err := newPipes()
	if err != nil {
		p.closeOurs()
		return nil, shortError(err)
	}
	defer direct.closeTheirs()
	l, err := newLease(n, p, direct)
	if err != nil {
		p.closeOurs()
		direct.closeOurs()
		return nil, shortError(err)
	}
	welcome := greeting{
		typ: frameWelcome, lanes: uint32(n.cfg.Lanes), ttl: uint32(n.cfg.TTL.Milliseconds()), limit: uint64(n.cfg.MaxPayload),
		proof: s.proof("node"),
	}
	requests, responses := l.mem.Files()
	if err := send(conn, &welcome, requests, responses, p.theirIn, p.theirOut, direct.theirIn, direct.theirOut); err != nil {
		l.mem.Close()
		p.closeOurs()
		direct.closeOurs()
		return nil, err
	}
	return l, nil
}

// shortError is for a relay for which the system has no descriptors or memory left.
func shortError(err error) *actions.Error {
	return &actions.Error{
		Code: actions.Unavailable, RetryAfter: time.Second, Err: err,
		Msg: "the node has no descriptors or memory for another relay; its log says what is short",
	}
}

// pipes are two pipes: what one side writes to its out, the other reads from its in.
type pipes struct{ in, out, theirIn, theirOut *os.File }

func newPipes() (p pipes, err error) {
	if p.in, p.theirOut, err = os.Pipe(); err != nil {
		return p, err
	}
	if p.theirIn, p.out, err = os.Pipe(); err != nil {
		_, _ = p.in.Close(), p.theirOut.Close()
	}
	return p, err
}

func (p pipes) closeOurs()   { _, _ = p.in.Close(), p.out.Close() }
func (p pipes) closeTheirs() { _, _ = p.theirIn.Close(), p.theirOut.Close() }

func tokenFlag(token []byte) uint8 {
	if len(token) > 0 {
		return hasToken
	}
	return 0
}

func newNonce() (nonce [nonceSize]byte) {
	_, _ = rand.Read(nonce[:]) // never fails
	return nonce
}

// send sends a greeting, and descriptors with it.
func send(conn *net.UnixConn, g *greeting, files ...*os.File) error {
	var b [frameSize]byte
	g.put(&b)
	var fds []int
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		// Not Fd, which would make a pipe wait for ever.
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(b[:], rights, nil)
	runtime.KeepAlive(files)
	return err
}

// sendRefusal sends a refusal and its JSON.
func sendRefusal(conn *net.UnixConn, e *actions.Error) error {
	text, err := json.Marshal(refusal{e.Code, e.Error(), e.RetryAfter.Milliseconds()})
	if err != nil || len(text) > maxRefusal {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return err
	}
	if err := send(conn, &greeting{typ: frameRefused, length: uint64(len(text))}); err != nil {
		return err
	}
	_, err = conn.Write(text)
	return err
}

// receive reads a greeting of the type, or the error of a refusal.
func receive(conn *net.UnixConn, want frameType) (greeting, error) {
	var b [frameSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return greeting{}, err
	}
	g, err := parseGreeting(&b, want)
	if err == nil && g.typ == frameRefused {
		return g, receiveRefusal(conn, g.length)
	}
	return g, err
}

// receiveRefusal reads the JSON of a refusal, and returns its error.
func receiveRefusal(conn *net.UnixConn, length uint64) error {
	if length > maxRefusal {
		return fmt.Errorf("a refusal of %d bytes", length)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	var r refusal
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("a refusal that cannot be read: %w", err)
	}
	e := &actions.Error{Code: actions.Unavailable, Msg: r.Msg, RetryAfter: time.Duration(min(max(r.RetryAfterMS, 0), 60_000)) * time.Millisecond}
	if r.Code == actions.Unauthorized || r.Code == actions.Forbidden {
		e.Code = r.Code
	}
	return e
}
