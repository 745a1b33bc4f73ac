package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// maxAnswer is how much of an answer is read.
const maxAnswer = 64 << 20

// A reply is what came back for a request.
type reply struct {
	what    string // the request, for people
	status  int
	length  int64 // what the answer says of itself, -1 when it does not
	chunked bool
	body    []byte
	err     error // why there is no answer, or not a whole one
	took    time.Duration
}

// exchange sends one request on a connection of its own.
func exchange(ctx context.Context, method, url string, body []byte, timeout time.Duration) reply {
	r := reply{length: -1}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		r.what, r.err = method+" "+url, err
		return r
	}
	r.what = describe(method, req.URL.Path, body)
	if len(body) > 0 || method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	resp, err := client.Do(req) // #nosec G704 -- the container that the user named
	if err != nil {
		r.err = noAnswer(ctx, err, timeout)
		return r
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	r.status, r.length, r.chunked = resp.StatusCode, resp.ContentLength, len(resp.TransferEncoding) > 0
	if r.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		r.err = noAnswer(ctx, err, timeout)
	}
	return r
}

// noAnswer says why there is no answer.
func noAnswer(ctx context.Context, err error, timeout time.Duration) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed without a whole answer")
	}
	return fmt.Errorf("no answer: %w", err)
}

// describe names a request for people.
func describe(method, path string, body []byte) string {
	name := path
	if method != http.MethodPost {
		name = method + " " + path
	}
	if len(body) == 0 {
		return name
	}
	return name + " " + short(body)
}

// short is the beginning of a text, in one line.
func short(text []byte) string {
	const most = 160
	text = bytes.TrimSpace(text)
	cut := ""
	if len(text) > most {
		cut = fmt.Sprintf("… (%d bytes)", len(text))
		text = text[:most]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
	}
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "�"))
	return line + cut
}

// got says what came back, for people.
func (r *reply) got() string {
	switch {
	case r.err != nil:
		return r.err.Error()
	case len(r.body) == 0:
		return fmt.Sprintf("%d without a body", r.status)
	}
	return fmt.Sprintf("%d %s", r.status, short(r.body))
}

// problem says what is wrong with an answer, whatever it was asked for: it must be there,
// and OpenWhisk takes none that does not say its length.
func (r *reply) problem() string {
	switch {
	case r.err != nil:
		return r.err.Error()
	case r.chunked:
		return fmt.Sprintf("%d in chunks, without a Content-Length", r.status)
	case r.length < 0:
		return fmt.Sprintf("%d without a Content-Length", r.status)
	}
	return ""
}

// object decodes the answer as a JSON object; nil when it is none.
func (r *reply) object() map[string]any {
	object, _ := decode(r.body).(map[string]any)
	return object
}

// errorText is the member error of the answer as text, "" without one.
func (r *reply) errorText() string {
	switch e := r.object()["error"].(type) {
	case nil:
		return ""
	case string:
		return e
	default:
		return encode(e)
	}
}

// decode decodes JSON, with its numbers as they were written. It is nil for what is not
// one JSON document in UTF-8.
func decode(data []byte) any {
	if !utf8.Valid(data) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil || dec.More() {
		return nil
	}
	return v
}

// encode writes a value as JSON, compact, as the invoker does.
func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprintf("%q", err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}
