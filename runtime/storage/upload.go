package storage

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// closeGrace is how long a transport may take to let go of a body after the answer.
const closeGrace = time.Second

// An upload is the body of PUTs. A transport may read on after it has returned; nobody
// reads when wait has returned.
type upload struct {
	data []byte
	open sync.WaitGroup // bodies that are not closed
	last *uploadBody
}

// request makes a PUT of the data.
func (u *upload) request(ctx context.Context, to *url.URL) (*http.Request, error) {
	if len(u.data) == 0 {
		u.last = nil
		return http.NewRequestWithContext(ctx, http.MethodPut, to.String(), http.NoBody)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to.String(), nil)
	if err != nil {
		return nil, err
	}
	req.ContentLength = int64(len(u.data))
	req.Body = u.body()
	req.GetBody = func() (io.ReadCloser, error) { return u.body(), nil } // for another connection
	return req, nil
}

func (u *upload) body() *uploadBody {
	u.open.Add(1)
	u.last = &uploadBody{rest: u.data, closed: u.open.Done}
	return u.last
}

// wait returns when every body is closed, which cancel hastens. complete says that all of
// the last one was read.
func (u *upload) wait(cancel context.CancelFunc) (complete bool) {
	timer := time.AfterFunc(closeGrace, cancel)
	defer timer.Stop()
	u.open.Wait()
	return u.last == nil || u.last.left == 0
}

// An uploadBody is the body of one request. HTTP/2 closes it while it is read.
type uploadBody struct {
	mu     sync.Mutex // guards what follows
	rest   []byte
	left   int    // bytes that were unread at Close
	closed func() // nil when it is
}

func (b *uploadBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed == nil:
		return 0, os.ErrClosed
	case len(b.rest) == 0:
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *uploadBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		b.left, b.rest = len(b.rest), nil
		b.closed()
		b.closed = nil
	}
	return nil
}
