package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// maxToken is how long a token may be: headers end there.
const maxToken = 16 << 10

// request makes the request of an event in binary mode, or in structured mode if its attributes
// are too many for a header.
func request(ctx context.Context, d destination, e *cloudevent.Event, p *payload) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	token, err := readToken(d.token)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	data, contentType, binary := e.Data, e.DataContentType, e.FitsBinary()
	switch {
	case !binary:
		data, contentType = e.AppendJSON(nil), cloudevent.StructuredType
		p.data = data
	case contentType == "" && len(data) > 0 && json.Valid(data): // what no type means in the JSON format
		contentType = "application/json"
	}
	if len(data) > 0 { // from here on there is a body to close
		req.Body = p.body()
		req.GetBody = func() (io.ReadCloser, error) { return p.body(), nil } // for another connection
		req.ContentLength = int64(len(data))
	}
	if binary {
		e.BinaryHeader(req.Header.Set)
	}
	req.Header.Set("User-Agent", "deepfn")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	// Whoever traces reads the headers; the extensions are the event's own.
	if parent := e.Extension("traceparent"); parent != "" {
		req.Header.Set("Traceparent", parent)
		if state := e.Extension("tracestate"); state != "" {
			req.Header.Set("Tracestate", state)
		}
	}
	return req, nil
}

// readToken reads a file with a token. Without one there is none.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path) //nolint:gosec // the operator named it
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("sink: token: %w", err)
	}
	defer func() { _ = f.Close() }()
	token, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return "", fmt.Errorf("sink: token: %w", err)
	}
	return strings.TrimSpace(string(token)), nil
}

// A payload is the data of an event while they are sent.
type payload struct {
	data []byte
	open sync.WaitGroup // bodies that are not closed
}

func (p *payload) body() *body {
	p.open.Add(1)
	return &body{rest: p.data, closed: p.open.Done}
}

// A body is that of one request. HTTP/2 closes it while it is read.
type body struct {
	mu     sync.Mutex // guards what follows
	rest   []byte
	closed func() // nil when it is
}

func (b *body) Read(to []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed == nil:
		return 0, os.ErrClosed
	case len(b.rest) == 0:
		return 0, io.EOF
	}
	n := copy(to, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		b.closed()
		b.closed, b.rest = nil, nil
	}
	return nil
}
