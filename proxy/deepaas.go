package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// A link points to another document.
type link struct {
	Rel  string `json:"rel"`
	Type string `json:"type,omitempty"`
	Href string `json:"href"`
}

// A version describes a version of the API.
type version struct {
	Version string `json:"version"`
	ID      string `json:"id"`
	Links   []link `json:"links"`
}

func (s *Server) stableVersion(r *request) version {
	return version{Version: "stable", ID: "v2", Links: []link{{"self", jsonType, s.at(r) + "/v2/"}}}
}

// versionsPage answers GET /. With an OpenWhisk behind it, its members stand in the
// document, too: both platforms' clients ask for theirs at the root of a host.
func (s *Server) versionsPage(_ context.Context, r *request) response {
	at := s.at(r)
	links := []link{{"help", "text/html", at + "/api"}, {"describedby", jsonType, at + "/swagger.json"}}
	if s.cfg.NoDocs {
		links = links[1:]
	}
	doc := &document{}
	doc.set("versions", []version{s.stableVersion(r)})
	doc.set("links", links)
	if s.cfg.Controller != nil && s.at(r) == "" {
		doc.merge(jsonResponse(http.StatusOK, s.cfg.Controller.Info()).body)
	}
	return pageResponse(doc)
}

// versionPage answers GET /v2/.
func (s *Server) versionPage(_ context.Context, r *request) response {
	return pageResponse(s.stableVersion(r))
}

// modelsPage answers GET /v2/models/.
func (s *Server) modelsPage(ctx context.Context, r *request) response {
	models, err := s.models(ctx, r)
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	docs := make([]*document, len(models))
	for i, m := range models {
		docs[i] = s.modelDocument(r, m, s.description(m))
	}
	return pageResponse(map[string][]*document{"models": docs})
}

// modelPage answers GET /v2/models/{model}/.
func (s *Server) modelPage(ctx context.Context, r *request) response {
	m, err := s.model(ctx, r.model)
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	return pageResponse(s.modelDocument(r, m, s.current(ctx, m, r)))
}

// refuse answers with an error that is not an invocation's.
func (s *Server) refuse(ctx context.Context, r *request, err error) response {
	e := asError(err, r.id)
	if e.Code == actions.Internal {
		s.log.ErrorContext(ctx, "request", "path", short(r.path), "request_id", r.id, "error", err.Error())
	}
	return failure(e)
}

// predict answers POST /v2/models/{model}/predict/.
func (s *Server) predict(ctx context.Context, r *request) response {
	if s.cfg.NoPredict {
		return s.paymentRequired(ctx, r)
	}
	return s.deepaas(ctx, r, actions.Predict, s.predictions)
}

// deepaas answers one call of a model. With an error, do may return the response that
// DEEPaaS has for it.
func (s *Server) deepaas(ctx context.Context, r *request, verb actions.Verb,
	do func(context.Context, *call, actions.Model, *request) (response, error),
) response {
	c := &call{
		protocol: deepaas, requestID: r.id, start: time.Now(),
		request: actions.Request{Model: r.model, Verb: verb, ID: r.id, Trace: r.trace},
	}
	var resp response
	m, err := s.lookUp(ctx, c)
	if err == nil {
		resp, err = do(ctx, c, m, r)
	}
	e := s.ended(ctx, r, c, err)
	r.note(c, e)
	if e == nil || resp.status != 0 {
		return resp
	}
	resp = failure(e)
	if e.Code == actions.Unsupported && e.Status == 0 && !c.given.is && verb == actions.Predict &&
		c.accept != "" && c.accept != "*/*" {
		resp.status = http.StatusNotAcceptable
	}
	return resp
}

// predictions runs one call and answers with what the model answered.
func (s *Server) predictions(ctx context.Context, c *call, m actions.Model, r *request) (response, error) {
	if resp, err := s.readArguments(c, m, r); err != nil {
		return resp, err
	}
	c.request.Buffer = r.room() // not of a job, which goes on when this has been answered
	if err := s.invoke(ctx, c, m); err != nil {
		return response{}, err
	}
	return envelope(&c.response, r), nil
}

// readArguments reads what the caller gave into the call.
func (s *Server) readArguments(c *call, m actions.Model, r *request) (resp response, err error) {
	var bad *jsonError
	if m.ParsesArguments() {
		c.given, bad, err = parseGiven(r)
		c.accept = c.given.accept
		d := s.description(m)
		c.given.addHeaders(r, d != nil, signature(d, c.request.Verb))
	} else {
		c.values, bad, err = parseValues(r)
		c.accept = wanted(c.values)
	}
	if bad != nil {
		return badJSON(bad, !m.ParsesArguments()), actions.Errorf(actions.Invalid, "%s", bad.msg)
	}
	if c.accept == "" {
		c.accept = r.accept
	}
	return response{}, err
}

// badJSON answers a JSON body that cannot be read, in webargs' words; what is wrong with
// it follows when more is asked for.
func badJSON(bad *jsonError, more bool) response {
	if bad.valid {
		return jsonResponse(http.StatusUnprocessableEntity, map[string][]string{"json": {"Invalid input type."}})
	}
	texts := []string{"Invalid JSON body."}
	switch {
	case !more:
	case bad.offset > 0:
		texts = append(texts, fmt.Sprintf("%s, at byte %d", bad.msg, bad.offset))
	default:
		texts = append(texts, bad.msg)
	}
	return jsonResponse(http.StatusBadRequest, map[string][]string{"json": texts})
}

// wanted returns the media type that the argument accept asks for.
func wanted(v actions.Values) string {
	if texts := v.Text["accept"]; len(texts) > 0 {
		return texts[0]
	}
	return jsonText(v.JSON["accept"])
}

// The envelope of an answer in JSON, in the bytes that Python would write.
const envelopeHead, envelopeTail = `{"status": "OK", "predictions": `, "}"

// room returns where the data of an answer may be put: behind the place for the head of
// its envelope.
func (r *request) room() []byte {
	if r.answer == nil || cap(*r.answer) < len(envelopeHead) {
		return nil
	}
	return (*r.answer)[len(envelopeHead):len(envelopeHead)]
}

// enclose puts data into the envelope: around them where they lie, if that is the room of
// the request's answer.
func (r *request) enclose(data []byte) []byte {
	size := len(envelopeHead) + len(data) + len(envelopeTail)
	if room := r.room(); len(data) > 0 && cap(room) > 0 && &room[:1][0] == &data[0] && cap(*r.answer) >= size {
		body := append((*r.answer)[:0], envelopeHead...)
		return append(body[:len(body)+len(data)], envelopeTail...)
	}
	body := append(make([]byte, 0, size), envelopeHead...)
	return append(append(body, data...), envelopeTail...)
}

// answerPolicy keeps HTML and SVG of a model from running as a part of this server, when
// a form of another site has a browser show an answer.
const answerPolicy = "sandbox"

// envelope answers with what the model answered.
func envelope(a *actions.Response, r *request) response {
	if isJSON(a.ContentType) {
		data := a.Data
		if len(data) == 0 {
			data = []byte("null")
		}
		if a.Whole {
			return response{status: http.StatusOK, contentType: jsonType, body: data}
		}
		return response{status: http.StatusOK, contentType: jsonType, body: r.enclose(data)}
	}
	resp := response{status: http.StatusOK, contentType: a.ContentType, body: a.Data, policy: answerPolicy}
	if _, _, err := mime.ParseMediaType(a.ContentType); err != nil {
		resp.contentType = "application/octet-stream"
	}
	if a.Filename != "" {
		resp.disposition = mime.FormatMediaType("attachment", map[string]string{"filename": a.Filename})
	}
	return resp
}

// parseValues reads the arguments from the query string, then a form, then JSON.
func parseValues(r *request) (v actions.Values, bad *jsonError, err error) {
	query, err := parseQuery(r.query)
	if err != nil {
		return v, nil, err
	}
	if v, bad, err = parseBody(r); bad != nil || err != nil {
		return v, bad, err
	}
	if len(query) == 0 {
		return v, nil, checkTexts(v.Text)
	}
	kept := v.Files[:0]
	for _, f := range v.Files {
		if _, ok := query[f.Name]; !ok {
			kept = append(kept, f)
		}
	}
	v.Files = kept
	for name, texts := range v.Text {
		if _, ok := query[name]; !ok {
			query[name] = texts
		}
	}
	v.Text = query
	return v, nil, checkTexts(v.Text)
}

// checkTexts refuses texts that are not UTF-8, which JSON cannot hold.
func checkTexts(texts map[string][]string) error {
	for name, values := range texts {
		for _, text := range values {
			if !utf8.ValidString(text) || !utf8.ValidString(name) {
				return notUTF8(name)
			}
		}
	}
	return nil
}

// parseBody reads the arguments that are in the body.
func parseBody(r *request) (v actions.Values, bad *jsonError, err error) {
	kind, boundary, err := bodyKind(r)
	if err != nil {
		return v, nil, err
	}
	switch kind {
	case noBody:
	case multipartBody:
		v, err = parseMultipart(r, boundary)
	case formBody:
		if err := takeForm(r); err != nil {
			return v, nil, err
		}
		v.Text, err = parseQuery(string(r.body))
	case jsonBody:
		if err := r.takeDecoded(); err != nil {
			return v, nil, err
		}
		v.JSON = make(map[string]json.RawMessage, 8)
		bad = scanObject(r.body, func(s *jsonscan.Scanner, key []byte) bool {
			raw, ok := s.Raw()
			v.JSON[string(key)] = raw
			return ok
		})
	}
	return v, bad, err
}

// looksLikeJSON says whether a body that is called a form is a JSON object, as curl -d
// sends it. No form is one: its first name would begin with a brace.
func looksLikeJSON(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) && json.Valid(body)
}

// parseQuery reads the encoding of query strings and of simple forms.
func parseQuery(query string) (url.Values, error) {
	if query == "" {
		return nil, nil
	}
	if strings.Count(query, "&") >= maxMembers {
		return nil, tooManyArguments(maxMembers)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, notEncoded(err)
	}
	return values, nil
}
