package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// inBuffer answers like a worker: with n times the first letter of the request's id, in
// the memory that the request has for it.
func inBuffer(kind string) *fakeInvoker {
	return &fakeInvoker{answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
		var n int
		if _, err := fmt.Sscanf(req.ID[1:], "%d", &n); err != nil {
			return actions.Response{}, err
		}
		data := req.Buffer[:cap(req.Buffer)]
		for i := range data {
			data[i] = '!' // whatever it held is lost
		}
		data = append(req.Buffer[:0], '"')
		data = append(data, strings.Repeat(req.ID[:1], n)...)
		return actions.Response{ContentType: kind, Data: append(data, '"')}, nil
	}}
}

// Answers lie in memory that others use before and after: each is the caller's own, also
// when many come at once, when their lengths differ, and when requests are sent before
// the answers to those before are read.
func TestAnswersOwn(t *testing.T) {
	sizes := []int{0, 1, 3, 4 << 10, 70 << 10, 5, keptBuffer, 70 << 10, 1}
	for _, kind := range []string{jsonType, "application/octet-stream"} {
		r := start(t, Config{Model: "echo", Invoker: inBuffer(kind)})
		var callers sync.WaitGroup
		for number := range 6 {
			letter := string(rune('a' + number))
			c := r.dial(t)
			callers.Go(func() {
				in := bufio.NewReader(c)
				go func() { // ends when all is written
					for _, n := range sizes {
						_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %s%d\r\nContent-Length: 2\r\n"+
							"Content-Type: application/json\r\n\r\n{}", predictPath, letter, n)
					}
				}()
				for _, n := range sizes {
					want := `"` + strings.Repeat(letter, n) + `"`
					if kind == jsonType {
						want = envelopeHead + want + envelopeTail
					}
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Errorf("%s%d: %v", letter, n, err)
						return
					}
					var got bytes.Buffer
					_, err = got.ReadFrom(resp.Body)
					_ = resp.Body.Close()
					if err != nil || got.String() != want {
						t.Errorf("%s%d: got %.60q, %d bytes, %v, want %.60q", letter, n, got.String(), got.Len(), err, want)
					}
				}
			})
		}
		callers.Wait()
	}
}

func TestEnclose(t *testing.T) {
	const data = `{"a":1}`
	const want = `{"status": "OK", "predictions": {"a":1}}`
	others := []byte(data)
	for _, tt := range []struct {
		name   string
		buffer []byte // nil: none
		inside bool
	}{
		{"no buffer", nil, false},
		{"in the buffer", make([]byte, 0, 100), true},
		{"in a buffer without a place for the tail", make([]byte, 0, len(envelopeHead)+len(data)), true},
		{"in a buffer of its size", make([]byte, 0, len(want)), true},
		{"beside the buffer", make([]byte, 0, 100), false},
		{"beside an empty buffer", make([]byte, 0), false},
		{"beside a small buffer", make([]byte, 0, len(envelopeHead)), false},
	} {
		r := &request{}
		if tt.buffer != nil {
			r.answer = &tt.buffer
		}
		answer := others
		if tt.inside {
			answer = append(r.room(), data...)
		}
		if got := string(r.enclose(answer)); got != want {
			t.Errorf("%s: got %s", tt.name, got)
		}
		if string(others) != data {
			t.Fatalf("%s: the answer itself was changed", tt.name)
		}
	}
	if got := string((&request{answer: new(make([]byte, 0, 100))}).enclose(nil)); got != envelopeHead+envelopeTail {
		t.Errorf("no data: got %s", got)
	}
}

// A buffer that has become too large is not kept.
func TestBuffersKeep(t *testing.T) {
	var b buffers
	large := make([]byte, 0, keptBuffer+1)
	b.keep(&large)
	b.keep(nil)
	if got := b.take(); cap(*got) != 0 {
		t.Errorf("got a buffer of %d bytes back", cap(*got))
	}
	buf := new([]byte)
	for _, tt := range []struct{ n, least, most int }{
		{0, 0, 0}, {100, 100, 200}, {50, 100, 200}, {keptBuffer, keptBuffer, keptBuffer}, {keptBuffer + 1, keptBuffer, keptBuffer},
	} {
		if grow(buf, tt.n); cap(*buf) < tt.least || cap(*buf) > tt.most {
			t.Errorf("after an answer of %d bytes: room for %d, want %d to %d", tt.n, cap(*buf), tt.least, tt.most)
		}
	}
}
