package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

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

// Probe returns nil if the node at the socket answers and takes relays, and knows the token
// that token returns; nil is none. It needs no place among the relays of the node. The
// error is an *actions.Error.
func Probe(ctx context.Context, path string, token func() ([]byte, error)) error {
	var secret []byte
	if token != nil {
		var err error
		if secret, err = token(); err != nil {
			return unavailable(path, err)
		}
	}
	err := dial(ctx, path, func(conn *net.UnixConn) error {
		_, files, err := introduce(conn, secret, onlyProbes)
		closeAll(files) // of a node that does not know probes
		return err
	})
	if err != nil {
		return unavailable(path, err)
	}
	return nil
}

// meet is the relay's side of the handshake, and connects before that. An *actions.Error
// is what the node said, or says what to do.
func meet(ctx context.Context, path string, token []byte) (w welcomed, err error) {
	err = dial(ctx, path, func(conn *net.UnixConn) error {
		w, err = answer(conn, token)
		return err
	})
	return w, err
}

// dial connects to the node and has handshake use the connection, which then ends.
func dial(ctx context.Context, path string, handshake func(*net.UnixConn) error) error {
	if err := checkPath(path); err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: greetTime}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return dialError(err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return errors.Join(fmt.Errorf("the socket is a %T", c), c.Close())
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return err
	}
	return handshake(conn)
}

// dialError says what to do about a socket that cannot be connected to.
func dialError(err error) error {
	var msg string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		msg = "there is no such file; start 'deepfn node', or name its socket with --node"
	case errors.Is(err, unix.ECONNREFUSED):
		msg = "nobody listens there any more; start 'deepfn node', or name its socket with --node"
	case errors.Is(err, fs.ErrPermission):
		msg = "this user may not use it; start 'deepfn node' with --allow-uid, or the relay as the node's user"
	default:
		return err
	}
	return &actions.Error{Code: actions.Unavailable, RetryAfter: time.Second, Msg: msg, Err: err}
}

// introduce does what a relay has to do before it is welcome. It returns the welcome, and
// the descriptors that came with it, which are the caller's.
func introduce(conn *net.UnixConn, token []byte, flags uint8) (greeting, []*os.File, error) {
	challenge, err := receive(conn, frameChallenge)
	if err != nil {
		return greeting{}, nil, err
	}
	if len(token) > 0 && challenge.flags&hasToken == 0 {
		return greeting{}, nil, actions.Errorf(actions.Unauthorized, "the relay has a token and the node has none; give both the same --token-file")
	}
	s := signed{token: token, node: challenge.nonce, relay: newNonce()}
	hello := greeting{typ: frameHello, flags: flags | tokenFlag(token), nonce: s.relay, proof: s.proof("relay")}
	if err := send(conn, &hello); err != nil {
		return greeting{}, nil, err
	}
	welcome, files, err := receiveFiles(conn)
	if err != nil {
		return greeting{}, nil, err
	}
	if !proves(welcome.proof, s.proof("node")) {
		closeAll(files)
		return greeting{}, nil, actions.Errorf(actions.Unauthorized, "the node does not know the token of the relay; give both the same --token-file")
	}
	return welcome, files, nil
}

// answer is introduce of who wants a lease, and maps its memory.
func answer(conn *net.UnixConn, token []byte) (welcomed, error) {
	welcome, files, err := introduce(conn, token, 0)
	if err != nil {
		return welcomed{}, err
	}
	ttl := time.Duration(welcome.ttl) * time.Millisecond
	switch {
	case len(files) != 4 && len(files) != 6:
		err = fmt.Errorf("%d descriptors came with the welcome, not 4 or 6", len(files))
	case welcome.lanes < 2 || welcome.limit == 0 || welcome.limit > maxLimit || ttl < beats*time.Millisecond || ttl > maxTTL:
		err = fmt.Errorf("%d lanes of %d bytes for %v", welcome.lanes, welcome.limit, ttl)
	}
	if err != nil {
		closeAll(files)
		return welcomed{}, err
	}
	mem, err := worker.OpenMemory(files[0], files[1], welcome.lanes, welcome.limit+extraRoom)
	if err != nil {
		closeAll(files[2:])
		return welcomed{}, err
	}
	w := welcomed{in: files[2], out: files[3], mem: mem, limit: int(welcome.limit), ttl: ttl}
	if len(files) == 6 {
		w.directIn, w.directOut = files[4], files[5]
	}
	return w, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
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
	closeAll(files)
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
