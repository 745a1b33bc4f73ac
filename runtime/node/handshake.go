package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
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

// greet is the node's side of the handshake. An *actions.Error is for the relay to know.
func (n *Node) greet(conn *net.UnixConn) (*lease, error) {
	if err := conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return nil, err
	}
	token, err := n.cfg.Token()
	if err != nil {
		return nil, err
	}
	challenge := greeting{typ: frameChallenge, flags: tokenFlag(token), nonce: newNonce()}
	if err := send(conn, &challenge); err != nil {
		return nil, err
	}
	hello, err := receive(conn, frameHello)
	if err != nil {
		return nil, err
	}
	if len(token) > 0 && !proves(hello.proof, prove(token, "relay", &challenge.nonce, &hello.nonce)) {
		if hello.flags&hasToken == 0 {
			return nil, actions.Errorf(actions.Unauthorized, "the node wants its token; give the relay the same --token-file")
		}
		return nil, actions.Errorf(actions.Unauthorized, "the relay has another token than the node; give both the same --token-file")
	}
	p, err := newPipes()
	if err != nil {
		return nil, err
	}
	defer p.closeTheirs()
	direct, err := newPipes()
	if err != nil {
		p.closeOurs()
		return nil, err
	}
	defer direct.closeTheirs()
	l, err := newLease(n, p, direct)
	if err != nil {
		p.closeOurs()
		direct.closeOurs()
		return nil, err
	}
	welcome := greeting{
		typ: frameWelcome, lanes: uint32(n.cfg.Lanes), ttl: uint32(n.cfg.TTL.Milliseconds()), limit: uint64(n.cfg.MaxPayload),
		proof: prove(token, "node", &challenge.nonce, &hello.nonce),
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

// A welcomed is what a relay has after the handshake.
type welcomed struct {
	in, out             *os.File
	directIn, directOut *os.File // nil where the node has no direct way
	mem                 *worker.Memory
	limit               int
	ttl                 time.Duration
}

func (w *welcomed) close() {
	for _, f := range []*os.File{w.in, w.out, w.directIn, w.directOut} {
		_ = f.Close() // of nil it is an error
	}
	w.mem.Close()
}

// meet is the relay's side of the handshake, and connects before that. An *actions.Error
// is what the node said, or says what to do.
func meet(ctx context.Context, path string, token []byte) (welcomed, error) {
	if err := checkPath(path); err != nil {
		return welcomed{}, err
	}
	dialer := net.Dialer{Timeout: greetTime}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return welcomed{}, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return welcomed{}, errors.Join(fmt.Errorf("the socket is a %T", c), c.Close())
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	return answer(conn, token)
}

// answer does what a relay has to do before it is welcome.
func answer(conn *net.UnixConn, token []byte) (welcomed, error) {
	if err := conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return welcomed{}, err
	}
	challenge, err := receive(conn, frameChallenge)
	if err != nil {
		return welcomed{}, err
	}
	if len(token) > 0 && challenge.flags&hasToken == 0 {
		return welcomed{}, actions.Errorf(actions.Unauthorized, "the relay has a token and the node has none; give both the same --token-file")
	}
	hello := greeting{typ: frameHello, flags: tokenFlag(token), nonce: newNonce()}
	hello.proof = prove(token, "relay", &challenge.nonce, &hello.nonce)
	if err := send(conn, &hello); err != nil {
		return welcomed{}, err
	}
	welcome, files, err := receiveFiles(conn)
	if err != nil {
		return welcomed{}, err
	}
	ttl := time.Duration(welcome.ttl) * time.Millisecond
	switch {
	case len(files) != 4 && len(files) != 6:
		err = fmt.Errorf("%d descriptors came with the welcome, not 4 or 6", len(files))
	case !proves(welcome.proof, prove(token, "node", &challenge.nonce, &hello.nonce)):
		err = actions.Errorf(actions.Unauthorized, "the node does not know the token of the relay; give both the same --token-file")
	case welcome.lanes < 2 || welcome.limit == 0 || welcome.limit > maxLimit || ttl < beats*time.Millisecond || ttl > maxTTL:
		err = fmt.Errorf("%d lanes of %d bytes for %v", welcome.lanes, welcome.limit, ttl)
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return welcomed{}, err
	}
	mem, err := worker.OpenMemory(files[0], files[1], welcome.lanes, welcome.limit+extraRoom)
	if err != nil {
		for _, f := range files[2:] {
			_ = f.Close()
		}
		return welcomed{}, err
	}
	w := welcomed{in: files[2], out: files[3], mem: mem, limit: int(welcome.limit), ttl: ttl}
	if len(files) == 6 {
		w.directIn, w.directOut = files[4], files[5]
	}
	return w, nil
}

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

// receiveFiles reads the welcome and the descriptors that come with it, or the error of a
// refusal.
func receiveFiles(conn *net.UnixConn) (greeting, []*os.File, error) {
	var b [frameSize]byte
	rights := make([]byte, unix.CmsgSpace(8*4))
	n, size, _, _, err := conn.ReadMsgUnix(b[:], rights)
	if err != nil {
		return greeting{}, nil, err
	}
	files := parseRights(rights[:size])
	if n == 0 {
		err = io.ErrUnexpectedEOF
	} else if _, err = io.ReadFull(conn, b[n:]); err == nil {
		var g greeting
		if g, err = parseGreeting(&b, frameWelcome); err == nil && g.typ == frameRefused {
			err = receiveRefusal(conn, g.length)
		} else if err == nil {
			return g, files, nil
		}
	}
	for _, f := range files {
		_ = f.Close()
	}
	return greeting{}, nil, err
}

// parseRights takes the descriptors out of a control message. Who sends some has them
// closed here if they are not wanted.
func parseRights(b []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "file of the node"))
		}
	}
	return files
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
