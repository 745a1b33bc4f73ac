package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/actions/many"
)

const (
	// maxLines is how many rows one event may have. More are a batch prediction.
	maxLines = 100_000
	// linesAtOnce is how many of them are in memory as rows at one time.
	linesAtOnce = 8192
)

// eventArguments makes the arguments of a call of the data of an event: a JSON object, a form,
// or the bytes of the model's one argument that is a file.
func (s *Server) eventArguments(ctx context.Context, c *call, d *delivery, in *request) error {
	e, m := &d.event, d.of.model
	media := mediaOf(e.DataContentType)
	switch {
	case d.url != "":
		return s.objectArgument(ctx, c, d, in)
	case len(e.Data) == 0:
	case media == "multipart/form-data", media == formType:
		in.contentType, in.body = e.DataContentType, e.Data
	case e.DataContentType != "" && e.IsJSON(), e.DataContentType == "" && json.Valid(e.Data):
		switch first := bytes.TrimLeft(e.Data, " \t\r\n"); {
		case string(first) == "null":
		case len(first) > 0 && first[0] == '[' && m.ParsesArguments():
			if !jsonscan.Valid(e.Data) {
				return actions.Errorf(actions.Invalid, "the data of the event are not JSON: %s", notScanned(e.Data).msg)
			}
			c.given, c.accept = given{is: true, args: e.Data}, in.accept
			return nil
		case len(first) > 0 && first[0] != '{' && first[0] != '[' && jsonscan.Valid(e.Data):
			return s.valueOfEvent(ctx, c, d, in)
		default:
			in.contentType, in.body = jsonType, e.Data
		}
	default:
		return s.fileOfEvent(ctx, c, d, in)
	}
	return s.readEvent(c, m, in)
}

// readEvent reads arguments as DEEPaaS does.
func (s *Server) readEvent(c *call, m actions.Model, in *request) error {
	resp, err := s.readArguments(c, m, in)
	if resp.status != 0 {
		what := "an object of arguments"
		return actions.Errorf(actions.Invalid, "the data of the event are not %s: %w", what, err)
	}
	return err
}

// valueOfEvent makes data that are a text, a number or a boolean in JSON the one argument of the
// model: the file that it takes, else its only argument; of a function that takes whatever it
// is given, the argument value.
func (s *Server) valueOfEvent(ctx context.Context, c *call, d *delivery, in *request) error {
	m := d.of.model
	if _, err := s.fileArgument(ctx, c, m, "a value"); err == nil {
		return s.fileOfEvent(ctx, c, d, in)
	} else if actions.CodeOf(err) != actions.Unsupported {
		return err
	}
	name := onlyArgument(m, s.description(m))
	if name == "" {
		return actions.Errorf(actions.Invalid, "the data of the event are one value, and %s has no one argument that they could be; send a JSON object of arguments", m.Name)
	}
	in.contentType, in.body = jsonType, append(appendPair(nil, name, d.event.Data), '}')
	return s.readEvent(c, m, in)
}

// onlyArgument is the name of the argument that a value without a name is, "" for none.
func onlyArgument(m actions.Model, d *actions.Description) string {
	var names []string
	for _, a := range m.Arguments {
		names = append(names, a.Name)
	}
	if sig := signature(d, actions.Predict); sig != nil {
		names = nil
		for _, p := range sig.Parameters {
			names = append(names, p.Name)
		}
		if len(names) == 0 && (sig.Open || d.Function) {
			return "value"
		}
	}
	if len(names) != 1 {
		return ""
	}
	return names[0]
}

// fileOfEvent makes the data of an event the file of a call.
func (s *Server) fileOfEvent(ctx context.Context, c *call, d *delivery, in *request) error {
	e := &d.event
	name, err := s.fileArgument(ctx, c, d.of.model, "data of the type "+short(e.DataContentType))
	if err != nil {
		return err
	}
	files := []actions.File{{Name: name, Filename: baseName(e.Subject), ContentType: e.DataContentType, Data: e.Data}}
	c.accept = in.accept
	if d.of.model.ParsesArguments() {
		c.given = given{is: true, files: files}
	} else {
		c.values.Files = files
	}
	return nil
}

// objectArgument makes the object that an event tells of the file of a call, by reference.
func (s *Server) objectArgument(ctx context.Context, c *call, d *delivery, in *request) error {
	name, err := s.fileArgument(ctx, c, d.of.model, "an object of a bucket")
	if err != nil {
		return err
	}
	body := appendPair(nil, name, append(appendPair(nil, "url", quoted(d.url)), '}'))
	if s.cfg.EventResults != "" {
		body = appendPair(body, resultTo, quoted(s.cfg.EventResults+keyOfURL(d.url)+".json"))
	}
	in.contentType, in.body = jsonType, append(body, '}')
	return s.readEvent(c, d.of.model, in)
}

// keyOfURL is the name of an object in its bucket.
func keyOfURL(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	_, key, _ := strings.Cut(rest, "/")
	return strings.TrimPrefix(path.Clean("/"+key), "/")
}

// fileArgument is the name of the model's one argument that is a file. A model that says
// itself what it takes is started for that, if need be.
func (s *Server) fileArgument(ctx context.Context, c *call, m actions.Model, has string) (string, error) {
	if m.ParsesArguments() && s.description(m) == nil {
		if _, _, err := s.expects(ctx, c, m); err != nil {
			return "", err
		}
	}
	name, err := actions.FileArgument(m, s.description(m))
	if err != nil {
		e := &actions.Error{Code: actions.Unsupported, Err: err, Status: http.StatusUnsupportedMediaType}
		e.Msg = fmt.Sprintf("the event has %s, and %s; send a JSON object of arguments", has, err.Error())
		return "", e
	}
	return name, nil
}

// predictLines predicts on each line of the data of an event. The answer has a line for each,
// an object with error and code where there is none. An error that may go away is that of the
// whole event, which then comes again.
func (s *Server) predictLines(ctx context.Context, c *call, d *delivery, in *request) error {
	data := bytes.TrimPrefix(d.event.Data, []byte("\xef\xbb\xbf")) // as the rows of a batch
	if n := bytes.Count(data, []byte("\n")) + 1; n > maxLines {
		return actions.Errorf(actions.TooLarge, "the event has %d lines, the limit is %d; ask for a batch prediction", n, maxLines)
	}
	c.accept = in.accept
	var out []byte
	for len(bytes.TrimSpace(data)) > 0 {
		var rows []many.Row
		rows, data = takeLines(data)
		results := s.predictLinesOf(ctx, c, d.of.model, rows, in)
		for i := range results {
			line, err := appendLine(out, &results[i], in.id)
			if err != nil {
				return err
			}
			out = line
		}
	}
	d.outcome = eventOutcome{kind: cloudevent.Prediction, contentType: ndjsonType, data: out}
	return nil
}

// rowError is asError of a row, whose error is an *actions.Error also when it is that of the
// context.
func rowError(err error, id string) *actions.Error {
	if actions.CodeOf(err) == actions.Internal {
		for _, ended := range [...]error{context.Canceled, context.DeadlineExceeded} {
			if errors.Is(err, ended) {
				return asError(ended, id)
			}
		}
	}
	return asError(err, id)
}

// takeLines takes some lines of the data of an event, and returns what follows them.
func takeLines(data []byte) (rows []many.Row, rest []byte) {
	rows = make([]many.Row, 0, min(linesAtOnce, bytes.Count(data, []byte("\n"))+1))
	for len(rows) < linesAtOnce && len(data) > 0 {
		line, after, _ := bytes.Cut(data, []byte("\n"))
		if line, data = bytes.TrimSpace(line), after; len(line) > 0 {
			rows = append(rows, many.Row{Args: line})
		}
	}
	return rows, data
}

// appendLine adds the answer to a row, or its error, unless that may go away.
func appendLine(out []byte, result *many.Result, id string) ([]byte, error) {
	if result.Err != nil {
		e := rowError(result.Err, id)
		if maySucceed(eventStatus(e)) {
			return nil, e
		}
		return append(out, jsonResponse(0, errorBody{Error: message(e), Code: e.Code}).body...), nil
	}
	a := &result.Response
	data := a.Data
	switch {
	case !isJSON(a.ContentType):
		data = wrapFile(a)
	case len(data) == 0:
		data = []byte("null")
	case bytes.IndexByte(data, '\n') >= 0:
		var b bytes.Buffer
		if err := json.Compact(&b, data); err != nil {
			return nil, fmt.Errorf("proxy: the answer to a row is not JSON: %w", err)
		}
		data = b.Bytes()
	}
	return append(append(out, data...), '\n'), nil
}

// predictLinesOf predicts rows, those together whose arguments are for the model alone, and the
// others, which have references, one by one.
func (s *Server) predictLinesOf(ctx context.Context, c *call, m actions.Model, rows []many.Row, in *request) []many.Result {
	plain, apart := make([]many.Row, 0, len(rows)), map[int]bool{}
	for i := range rows {
		if isPlain(rows[i].Args) {
			plain = append(plain, rows[i])
		} else {
			apart[i] = true
		}
	}
	together := s.predictRows(ctx, c, m, plain)
	if len(apart) == 0 {
		return together
	}
	results := make([]many.Result, len(rows))
	for i := range rows {
		if apart[i] {
			results[i] = s.predictLine(ctx, c, m, rows[i].Args, in)
		} else {
			results[i], together = together[0], together[1:]
		}
	}
	return results
}

// predictLine predicts one row as if it were an event of its own.
func (s *Server) predictLine(ctx context.Context, c *call, m actions.Model, args json.RawMessage, in *request) many.Result {
	own := &request{id: in.id, bodies: in.bodies, trace: in.trace, accept: in.accept, contentType: jsonType, body: args}
	defer func() { s.bodies.give(own.taken) }()
	one := &call{protocol: c.protocol, requestID: c.requestID, known: true, request: c.request}
	err := s.readEvent(one, m, own)
	if err == nil {
		err = s.exited(m, s.invoke(ctx, one, m))
	}
	c.rows++
	c.response.Timing = plus(c.response.Timing, one.response.Timing)
	c.response.Logs = append(c.response.Logs, one.response.Logs...)
	return many.Result{Response: one.response, Err: err}
}

// predictRows predicts rows with as few calls as their model allows, and adds to c what these
// took and printed.
func (s *Server) predictRows(ctx context.Context, c *call, m actions.Model, rows []many.Row) []many.Result {
	results := many.Predict(ctx, many.Call{
		Model: m, Invoke: s.cfg.Invoker.Invoke, ID: c.request.ID, Trace: c.request.Trace,
		Accept: c.accept, Concurrency: max(1, min(m.Scale.Max, maxFetches)),
	}, rows)
	c.returned = s.traceTime()
	c.rows += len(rows)
	var before *actions.Error
	for i := range results {
		a := &results[i].Response
		c.response.Timing = longest(c.response.Timing, a.Timing)
		c.response.Logs = append(c.response.Logs, a.Logs...)
		if e, ok := errors.AsType[*actions.Error](results[i].Err); ok && e != before { // which rows may share
			c.response.Logs = append(c.response.Logs, e.Logs...)
			before = e
		}
	}
	return results
}

// longest is the time of two calls at the same time.
func longest(a, b actions.Timing) actions.Timing {
	if a == b {
		return a
	}
	both := plus(a, b)
	both.Queue, both.Start, both.Run = max(a.Queue, b.Queue), max(a.Start, b.Start), max(a.Run, b.Run)
	return both
}
