package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// spareFiles are the open files that connections leave for all else: pipes and
	// memory of workers, models, the log.
	spareFiles = 256
	minConns   = 64
	maxConns   = 64 << 10

	// An accept that failed for want of something is tried again after minPause, which
	// doubles up to maxPause; shedConns connections are closed to help it.
	minPause  = 5 * time.Millisecond
	maxPause  = time.Second
	shedConns = 16
	// sameLog is how often such a failure is logged.
	sameLog = 10 * time.Second
	// refusing is how many connections may be refused at the same time; more are closed
	// without an answer.
	refusing = 32
)

// A listener accepts connections up to a number, and goes on when it could not.
type listener struct {
	net.Listener
	conns   *connections
	limit   int
	log     *slog.Logger
	refused func() // counts

	once   sync.Once
	closed chan struct{} // closed by Close

	refusals sync.WaitGroup
	slots    chan struct{} // one for each refusal in progress
	logged   time.Time     // used by Accept alone, like all below
	failures int           // since then
}

func newListener(ln net.Listener, conns *connections, limit int, log *slog.Logger, refused func()) *listener {
	return &listener{
		Listener: ln, conns: conns, limit: limit, log: log, refused: refused,
		closed: make(chan struct{}), slots: make(chan struct{}, refusing),
	}
}

// Accept returns the next connection. An error is final.
func (l *listener) Accept() (net.Conn, error) {
	for pause := time.Duration(0); ; {
		c, err := l.Listener.Accept()
		if err == nil {
			if conn := l.admit(c); conn != nil {
				return conn, nil
			}
			pause = 0
			continue
		}
		if !passing(err) {
			return nil, err
		}
		pause = min(max(2*pause, minPause), maxPause)
		l.complain(err, l.conns.shed(shedConns))
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
	}
}

// Close ends the listening, and returns when the connections that were refused are closed.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	err := l.Listener.Close()
	l.refusals.Wait()
	return err
}

// admit takes a connection. At the limit one that does nothing goes for it; when all have
// requests, the new one is refused, and admit returns nil.
func (l *listener) admit(c net.Conn) net.Conn {
	if l.conns.count(fresh, busy, idle) < l.limit || l.conns.shed(1) > 0 {
		return l.conns.add(c)
	}
	l.refused()
	select {
	case l.slots <- struct{}{}:
		l.refusals.Go(func() { // ends within lastWords
			refuse(c)
			<-l.slots
		})
	default:
		_ = c.Close()
	}
	return nil
}

// refuse answers the first request of a connection, whatever it is, and closes it. It
// reads what comes, because closing before would take the answer from the client.
func refuse(c net.Conn) {
	body := jsonResponse(0, errorBody{Error: "the server has too many connections, try again later", Code: "busy"}).body
	_ = c.SetDeadline(time.Now().Add(lastWords))
	_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: "+jsonType+
		"\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"+string(body))
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c, inMemory)
	_ = c.Close()
}

// complain logs that connections cannot be accepted, though not each time.
func (l *listener) complain(err error, shed int) {
	l.failures++
	if now := time.Now(); now.Sub(l.logged) >= sameLog {
		l.log.Warn("connections cannot be accepted for now", "error", err.Error(),
			"failures", l.failures, "closed_connections", shed)
		l.logged, l.failures = now, 0
	}
}

// passing says whether an error of accept is about one connection or will pass: accept(2)
// reports errors of the network on the new connection, too.
func passing(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && slices.Contains([]syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPERM,
		syscall.ENETDOWN, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENONET,
		syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH, syscall.ETIMEDOUT,
	}, errno)
}

// defaultConns is how many connections the limit of open files allows.
func defaultConns() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return minConns
	}
	return connsOf(limit.Cur)
}

func connsOf(files uint64) int {
	return int(min(max(files, spareFiles+minConns)-spareFiles, maxConns))
}
