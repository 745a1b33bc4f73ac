package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	jsonType = "application/json"
	// maxMessage is how much of a server's words an error repeats.
	maxMessage = 500
)

// A reply is what the server answered.
type reply struct {
	status      int
	contentType string // as it came
	filename    string
	location    string
	body        []byte
}

var errTooLarge = errors.New("it is over the limit")

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(b) > limit {
		return nil, errTooLarge
	}
	return b, err
}

// do sends a request and reads the answer. An error is an *actions.Error if it is the
// request's or the answer's fault, else the connection's.
func (s *server) do(ctx context.Context, method, address string, out *outgoing, limit int) (*reply, error) {
	if len(out.query) > 0 {
		address += "?" + out.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(out.body))
	if err != nil {
		return nil, actions.Errorf(actions.Internal, "http: %w", err)
	}
	maps.Copy(req.Header, out.header)
	if out.contentType != "" {
		req.Header.Set("Content-Type", out.contentType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := readAll(resp.Body, limit)
	if errors.Is(err, errTooLarge) {
		return nil, actions.Errorf(actions.TooLarge, "the server's answer is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, err
	}
	r := &reply{
		status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"),
		location: resp.Header.Get("Location"), body: b,
	}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil {
		if name := path.Base(params["filename"]); name != "." && name != "/" && name != ".." {
			r.filename = name
		}
	}
	return r, nil
}

// response makes a response of a prediction.
func (r *reply) response() (actions.Response, error) {
	if err := r.failure(); err != nil {
		return actions.Response{}, err
	}
	if !actions.IsJSON(r.contentType) {
		contentType := r.contentType
		if contentType == "" {
			contentType = "application/octet-stream"
		}
		return actions.Response{ContentType: contentType, Filename: r.filename, Data: r.body}, nil
	}
	if !json.Valid(r.body) {
		return actions.Response{}, actions.Errorf(actions.Failed, "the server's answer is not the JSON that it says it is: %s", excerpt(r.body))
	}
	if result, ok := envelope(r.body); ok {
		return actions.Response{ContentType: jsonType, Data: result}, nil
	}
	return actions.Response{ContentType: jsonType, Filename: r.filename, Data: r.body, Whole: true}, nil
}

// envelope returns what is in {"status": "OK", "predictions": …}, if that is all there is.
func envelope(body []byte) (json.RawMessage, bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return nil, false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || len(members) != 2 || string(members["status"]) != `"OK"` {
		return nil, false
	}
	result, ok := members["predictions"]
	return result, ok
}

// failure returns the error that the server answered, nil if it did not.
func (r *reply) failure() error {
	switch {
	case r.status >= 200 && r.status < 300:
		return nil
	case r.status < 400 || r.status > 599:
		return actions.Errorf(actions.Failed, "the server answered the status %d %s %s", r.status, http.StatusText(r.status), r.location)
	}
	e := &actions.Error{Code: codeOf(r.status), Status: r.status, Msg: r.message()}
	if r.status == http.StatusUnprocessableEntity || r.status == http.StatusBadRequest {
		e.Fields = fieldsOf(r.body)
	}
	if e.Fields != nil {
		e.Msg = "the server refused the arguments"
	}
	return e
}

// codeOf returns the code for a status.
func codeOf(status int) actions.Code {
	switch status {
	case http.StatusNotFound:
		return actions.NotFound
	case http.StatusPaymentRequired, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return actions.Unsupported // 402 is how DEEPaaS says that a verb is turned off
	case http.StatusRequestEntityTooLarge:
		return actions.TooLarge
	case http.StatusConflict:
		return actions.Conflict
	case http.StatusTooManyRequests:
		return actions.Busy
	case http.StatusServiceUnavailable:
		return actions.Unavailable
	}
	if status < 500 {
		return actions.Invalid
	}
	return actions.Failed
}

// message returns the server's words.
func (r *reply) message() string {
	said := fmt.Sprintf("the server answered %d %s", r.status, http.StatusText(r.status))
	var members map[string]any
	if json.Unmarshal(r.body, &members) == nil {
		for _, name := range []string{"message", "error", "detail", "reason"} {
			if text, ok := members[name].(string); ok && text != "" {
				return said + ": " + short(text)
			}
		}
	}
	media, _, _ := mime.ParseMediaType(r.contentType)
	text := strings.ToValidUTF8(strings.TrimSpace(string(r.body[:min(len(r.body), 4*maxMessage)])), "\ufffd")
	if text == "" || media == "text/html" || strings.ContainsRune(text, 0) {
		return said
	}
	return said + ": " + short(text)
}

// short cuts a text.
func short(text string) string {
	if runes := []rune(text); len(runes) > maxMessage {
		return string(runes[:maxMessage]) + "…"
	}
	return text
}

// fieldsOf returns what is wrong with which argument: {"name": ["…"]}, or that for each
// location, as later versions of webargs have it. Nil means that it is something else.
func fieldsOf(body []byte) map[string][]string {
	var plain map[string][]string
	if json.Unmarshal(body, &plain) == nil && len(plain) > 0 {
		return plain
	}
	var located map[string]map[string][]string
	if json.Unmarshal(body, &located) != nil || len(located) == 0 {
		return nil
	}
	fields := map[string][]string{}
	for _, wrong := range located {
		for name, messages := range wrong {
			fields[name] = append(fields[name], messages...)
		}
	}
	return fields
}

// excerpt shows the beginning of an answer.
func excerpt(b []byte) string {
	const most = 120
	if len(b) > most {
		return fmt.Sprintf("%q…", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
