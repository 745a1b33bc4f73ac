package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// The protocols by name.
const (
	openwhisk   = "openwhisk"
	deepaas     = "deepaas"
	cloudevents = "cloudevents"
)

// A call is one invocation on its way through a protocol.
type call struct {
	protocol  string // openwhisk, deepaas or cloudevents, for logs and metrics
	event     string // the id of the event, empty for none or several
	rows      int    // how many rows it has, 0 for a call of one
	requestID string
	start     time.Time
	deadline  time.Time // the platform's; zero when there is none
	known     bool      // the catalog has request.Model
	values    actions.Values
	given     given  // instead of values, to a model that parses its own arguments
	accept    string // what the caller wants, in the syntax of the header Accept
	request   actions.Request
	response  actions.Response
	begun     actions.Response // of the call that started the model, with logs and timing
	answered  *actions.Error   // the error that a web action has answered with
	returned  time.Time        // from the model; zero when nobody has looked at the clock
	// references are what is given by reference; whoever sets them closes them.
	references *references
}

// lookUp finds the model of a call.
func (s *Server) lookUp(ctx context.Context, c *call) (actions.Model, error) {
	m, err := s.model(ctx, c.request.Model)
	c.known = err == nil
	return m, err
}

// model finds a model. No model's name is as long as maxShown.
func (s *Server) model(ctx context.Context, name string) (actions.Model, error) {
	if len(name) > maxShown {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q", short(name))
	}
	if ctx.Value(forActions{}) != nil {
		return s.cfg.Actions.Model(ctx, name)
	}
	return s.cfg.Catalog.Model(ctx, name)
}

// forActions marks the context of an activation of Activate, whose models are those of
// Config.Actions, also on the way through the routes that answer a web action.
// Its value are terms.
type forActions struct{}

// terms are what an activation says of its calls.
type terms struct {
	limit time.Duration
	begin func(context.Context) error
}

// termsOf returns those of the activation that ctx is for, or none.
func termsOf(ctx context.Context) terms {
	t, _ := ctx.Value(forActions{}).(terms)
	return t
}

// preparing is the request that has a model started, to see what it says of itself, on the
// way to the call of one.
func preparing(ctx context.Context, model, id string, trace actions.Trace) actions.Request {
	return actions.Request{Model: model, Verb: actions.Metadata, ID: id, Limit: termsOf(ctx).limit, Trace: trace}
}

// invoke binds the values of a call to the model's arguments, runs it, and checks that
// the caller can take the answer. What is given by reference is fetched before, and the
// answer stored after it.
func (s *Server) invoke(ctx context.Context, c *call, m actions.Model) error {
	if c.request.Verb != actions.ParseTrain { // after which a job has the arguments
		defer func() { c.references.close() }()
	}
	if err := s.refer(ctx, c, m); err != nil {
		return err
	}
	wanted, err := actions.ParseAccept(c.accept)
	switch {
	case m.ParsesArguments():
		// What accept may be is the module's affair; its own argument of that name may
		// be something else.
		c.request.Args, c.request.Texts, c.request.Files, err = c.given.args, c.given.texts, c.given.files, nil
	case err != nil:
		return err
	case c.request.Verb == actions.Train:
		c.request.Args, err = unbound(c.values)
		c.request.Files = c.values.Files
	default:
		c.request.Args, c.request.Files, err = m.Bind(c.values)
	}
	if err != nil {
		return err
	}
	c.request.Accept = c.accept
	c.request.Limit, c.request.Begin = termsOf(ctx).limit, termsOf(ctx).begin
	c.response, err = s.cfg.Invoker.Invoke(ctx, c.request)
	c.returned = s.traceTime()
	if err = c.addBegun(err); err != nil {
		return err
	}
	if s.offersTypes(m, c.request.Verb) && wanted.Quality(c.response.ContentType) == 0 {
		e := actions.Errorf(actions.Unsupported, "%s answers %s, which the request does not accept: %.100q",
			m.Name, c.response.ContentType, c.accept)
		e.Status = http.StatusNotAcceptable
		return e
	}
	return s.storeResult(ctx, c)
}

// addBegun adds to what a call printed, and how long it took, what the start of the model
// for it did before.
func (c *call) addBegun(err error) error {
	if c.begun.Logs == nil && c.begun.Timing == (actions.Timing{}) {
		return err
	}
	c.response.Logs = slices.Concat(c.begun.Logs, c.response.Logs)
	begun := c.begun.Timing
	begun.Run = 0 // of no call that anybody asked for
	c.response.Timing = plus(begun, c.response.Timing)
	if e, ok := errors.AsType[*actions.Error](err); ok && len(c.begun.Logs) > 0 {
		told := *e
		told.Logs = slices.Concat(c.begun.Logs, e.Logs)
		return &told
	}
	return err
}

// offersTypes says whether the caller can choose the media type of an answer. To a module
// without an argument accept the header means nothing, and to a function an argument of
// that name may mean anything.
func (s *Server) offersTypes(m actions.Model, verb actions.Verb) bool {
	if !m.ParsesArguments() {
		return true
	}
	sig := signature(s.description(m), verb)
	return sig != nil && slices.ContainsFunc(sig.Parameters, func(p actions.Parameter) bool { return p.Name == "accept" })
}

// unbound makes one JSON object of values for a verb whose arguments the catalog does
// not describe.
func unbound(v actions.Values) (json.RawMessage, error) {
	args := make(map[string]any, len(v.JSON)+len(v.Text))
	for name, value := range v.JSON {
		args[name] = value
	}
	for name, texts := range v.Text {
		if args[name] = texts; len(texts) == 1 {
			args[name] = texts[0]
		}
	}
	for name := range args {
		if name == "accept" || strings.HasPrefix(name, "__ow_") {
			delete(args, name)
		}
	}
	return json.Marshal(args)
}

// observe ends a call: it counts it and writes its one log line. It returns err as the
// caller may see it.
func (s *Server) observe(ctx context.Context, c *call, err error) *actions.Error {
	var e *actions.Error
	code, level := "ok", slog.LevelInfo
	if err != nil {
		e = asError(err, c.requestID)
		code = string(e.Code)
		if e.Code == actions.Internal {
			level = slog.LevelError
		}
	} else if c.answered != nil {
		code = string(c.answered.Code)
	}
	total := time.Since(c.start)
	s.metrics.invocation(c, code, total)
	printed := c.response.Logs
	if e != nil && len(printed) == 0 {
		printed = e.Logs
	}
	s.printedBy(printed)
	if c.protocol != openwhisk { // which has the logs of its activations
		s.logOutput(ctx, c, outputLevel(e), printed)
	}
	if !s.log.Enabled(ctx, level) {
		return e
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("model", short(c.request.Model)), slog.String("verb", string(c.request.Verb)),
		slog.String("protocol", c.protocol), slog.String("request_id", c.requestID),
		slog.String("code", code), slog.Float64("seconds", total.Seconds()))
	if c.request.ID != c.requestID {
		attrs = append(attrs, slog.String("activation_id", c.request.ID))
	}
	if c.event != "" {
		attrs = append(attrs, slog.String("event_id", short(c.event)))
	}
	if c.rows > 0 {
		attrs = append(attrs, slog.Int("rows", c.rows))
	}
	if e != nil && e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	s.log.LogAttrs(ctx, level, "invocation", attrs...)
	return e
}

// isJSON says whether a media type is that of JSON.
func isJSON(contentType string) bool {
	if contentType == jsonType {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return mediaType == jsonType
}
