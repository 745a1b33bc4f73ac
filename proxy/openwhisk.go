package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// maxID is how long an id of a caller may be.
const maxID = 128

// run answers POST /run: one activation. It ends the activation's logs exactly once,
// before the answer and whatever that is.
func (s *Server) run(ctx context.Context, r *request) response {
	if crossSite(r) { // which is no activation
		s.metrics.refused("cross_site")
		return whiskText(http.StatusForbidden, otherSite)
	}
	var logs []actions.LogLine
	var c call
	defer func() { s.activations.end(c.deadline, logs) }()

	if s.draining.Load() {
		s.metrics.refused("draining")
		return whiskError(http.StatusServiceUnavailable, drainingError())
	}
	a := s.action.Load()
	if a == nil {
		return whiskText(http.StatusInternalServerError, "no action defined yet")
	}
	c = call{
		protocol: openwhisk, requestID: r.id, start: time.Now(),
		request: actions.Request{Model: a.model, Verb: a.verb, ID: r.id, Trace: r.trace},
	}
	resp, err := s.activate(ctx, &c, r)
	logs = c.response.Logs
	e := s.observe(ctx, &c, err)
	r.note(&c, e)
	if e == nil {
		return resp
	}
	if len(logs) == 0 {
		logs = e.Logs
	}
	if resp.status != 0 {
		return resp
	}
	return whiskError(runStatus(e.Code), e)
}

// activate decodes the body of a /run and runs the activation. With an error it may return
// the response that the contract wants for it.
func (s *Server) activate(ctx context.Context, c *call, r *request) (response, error) {
	if r.refused != nil {
		return response{}, r.refused
	}
	a, err := parseActivation(r.body)
	if err != nil {
		_, _ = s.lookUp(ctx, c) // the metrics name a model that there is
		return response{}, err
	}
	if a.id != "" {
		c.request.ID = a.id
	}
	if c.deadline = a.deadline; !a.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = s.withDeadline(ctx, c.start, a.deadline)
		defer cancel()
	}
	return s.perform(ctx, c, &a, r)
}

// withDeadline ends ctx the margin before the platform gives up.
func (s *Server) withDeadline(ctx context.Context, now, deadline time.Time) (context.Context, context.CancelFunc) {
	margin := max(0, min(s.cfg.DeadlineMargin, deadline.Sub(now)/10))
	return context.WithDeadline(ctx, deadline.Add(-margin))
}

// An activation is the body of a /run.
type activation struct {
	id       string
	deadline time.Time       // zero when there is none
	kind     byte            // the first byte of value, 0 without one
	value    json.RawMessage // as it came
	values   map[string]json.RawMessage
	many     bool // value has more members than values
	others   []keyed
	context  []actions.Text // what is known beside others
}

// A keyed is a member of a JSON object.
type keyed struct {
	key []byte
	raw json.RawMessage
}

// parseActivation takes a /run body apart. Its values are slices of the body.
func parseActivation(body []byte) (activation, error) {
	a := activation{others: make([]keyed, 0, 8)}
	bad := scanObject(body, func(s *jsonscan.Scanner, key []byte) bool {
		if string(key) == "value" {
			return a.takeValue(s)
		}
		raw, ok := s.Raw()
		switch string(key) {
		case "activation_id":
			a.id = cleanID(jsonText(raw))
		case "deadline":
			a.deadline = parseDeadline(raw)
		}
		a.others = append(a.others, keyed{key, raw})
		return ok
	})
	if bad != nil {
		return activation{}, actions.Errorf(actions.Invalid, "Error unmarshaling request: %s", bad.msg)
	}
	return a, nil
}

// takeValue moves past the value and keeps it and its members.
func (a *activation) takeValue(s *jsonscan.Scanner) bool {
	start := s.Pos()
	a.kind, a.many, a.values = s.Peek(), false, make(map[string]json.RawMessage, 8)
	ok := false
	if a.kind == '{' {
		ok = s.Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
			raw, ok := s.Raw()
			if a.many = a.many || len(a.values) == maxMembers; !a.many {
				a.values[string(key)] = raw
			}
			return ok
		})
	} else {
		ok = s.Value()
	}
	a.value = s.Since(start)
	return ok
}

// parseDeadline reads a string or a number of milliseconds since 1970. What cannot be
// a deadline of our time is none: test harnesses send "123".
func parseDeadline(raw json.RawMessage) time.Time {
	if len(raw) >= 2 && raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	ms, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(ms) || ms < 1e11 || ms > 1e14 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// jsonText returns the text of a JSON string, "" for anything else.
func jsonText(raw json.RawMessage) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if inner := raw[1 : len(raw)-1]; jsonscan.Plain(inner) == len(inner) {
		return string(inner)
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// result makes the activation's result of a model's answer.
func (s *Server) result(a *actions.Response) (response, error) {
	body := a.Data
	if !isJSON(a.ContentType) {
		body = wrapFile(a)
	} else if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 {
		body = []byte(`{"result":null}`)
	} else if first[0] != '{' && first[0] != '[' {
		body = append(append(append(make([]byte, 0, len(body)+16), `{"result":`...), body...), '}')
	}
	if s.cfg.MaxPayload > 0 && int64(len(body)) > s.cfg.MaxPayload {
		return response{}, actions.Errorf(actions.TooLarge,
			"the answer has %d bytes, the limit is %d; ask for less, or "+byReferenceHint, len(body), s.cfg.MaxPayload)
	}
	return response{status: http.StatusOK, contentType: jsonType, body: body}, nil
}

// wrapFile puts an answer that is not JSON into an object.
func wrapFile(a *actions.Response) []byte {
	head := jsonResponse(0, struct {
		ContentType string `json:"content_type"`
		Filename    string `json:"filename,omitempty"`
	}{a.ContentType, a.Filename}).body
	body := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(a.Data))+16)
	body = append(body, bytes.TrimSuffix(head, []byte("}\n"))...)
	body = append(body, `,"data":"`...)
	body = base64.StdEncoding.AppendEncode(body, a.Data)
	return append(body, `"}`...)
}

// whiskError and whiskText answer an error in OpenWhisk's words.
func whiskError(status int, e *actions.Error) response {
	resp := whiskText(status, message(e))
	resp.retryAfter = 0
	if status == http.StatusServiceUnavailable {
		resp.retryAfter = retryAfter(e, status)
	}
	return resp
}

func whiskText(status int, text string) response {
	return jsonResponse(status, errorBody{Error: text})
}

// cleanID returns an id that is safe to log and to send, "" when there is none.
func cleanID(id string) string {
	if len(id) > maxID {
		return ""
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return ""
		}
	}
	return id
}
