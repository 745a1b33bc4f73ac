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

func stableVersion() version {
	return version{Version: "stable", ID: "v2", Links: []link{{"self", jsonType, "/v2/"}}}
}

// versionsPage answers GET /.
func (s *Server) versionsPage(context.Context, *request) response {
	return jsonResponse(http.StatusOK, struct {
		Versions []version `json:"versions"`
		Links    []link    `json:"links"`
	}{
		Versions: []version{stableVersion()},
		Links:    []link{{"help", "text/html", "/api"}, {"describedby", jsonType, "/swagger.json"}},
	})
}

// versionPage answers GET /v2/.
func (s *Server) versionPage(context.Context, *request) response {
	return jsonResponse(http.StatusOK, stableVersion())
}

// modelsPage answers GET /v2/models/.
func (s *Server) modelsPage(ctx context.Context, r *request) response {
	models, err := s.cfg.Catalog.Models(ctx)
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	docs := make([]modelDocument, len(models))
	for i, m := range models {
		docs[i] = s.modelDocument(m)
	}
	return jsonResponse(http.StatusOK, map[string][]modelDocument{"models": docs})
}

// modelPage answers GET /v2/models/{model}/.
func (s *Server) modelPage(ctx context.Context, r *request) response {
	m, err := s.model(ctx, r.model)
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	return jsonResponse(http.StatusOK, s.modelDocument(m))
}

// refuse answers with an error that is not an invocation's.
func (s *Server) refuse(ctx context.Context, r *request, err error) response {
	e := asError(err, r.id)
	if e.Code == actions.Internal {
		s.log.ErrorContext(ctx, "request", "path", short(r.path), "request_id", r.id, "error", err.Error())
	}
	return failure(e)
}

// A modelDocument is a model's metadata: DEEPaaS' three fields, then the model's own.
type modelDocument struct {
	ID          string             `json:"id"`
	Name        string             `json:"name"`
	Links       []link             `json:"links"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Version     string             `json:"version,omitempty"`
	Author      string             `json:"author,omitempty"`
	License     string             `json:"license,omitempty"`
	Source      string             `json:"source,omitempty"`
	Keywords    []string           `json:"keywords,omitempty"`
	Arguments   []actions.Argument `json:"arguments"`
	// Runtime is what the runtime reported of the loaded model, null before that.
	Runtime json.RawMessage `json:"runtime"`
}

func (s *Server) modelDocument(m actions.Model) modelDocument {
	if m.Arguments == nil {
		m.Arguments = []actions.Argument{}
	}
	return modelDocument{
		ID: m.Name, Name: m.Name,
		Links: []link{{Rel: "self", Href: "/v2/models/" + url.PathEscape(m.Name) + "/"}},
		Title: m.Title, Description: m.Description, Version: m.Version, Author: m.Author,
		License: m.License, Source: m.Source, Keywords: m.Keywords, Arguments: m.Arguments,
		Runtime: s.cfg.Invoker.Info(m.Name),
	}
}

// predict answers POST /v2/models/{model}/predict/, train the same with train. A
// training is answered when it is done.
func (s *Server) predict(ctx context.Context, r *request) response {
	return s.deepaas(ctx, r, actions.Predict)
}

func (s *Server) train(ctx context.Context, r *request) response {
	return s.deepaas(ctx, r, actions.Train)
}

func (s *Server) deepaas(ctx context.Context, r *request, verb actions.Verb) response {
	c := &call{
		protocol: "deepaas", requestID: r.id, start: time.Now(),
		request: actions.Request{Model: r.model, Verb: verb, ID: r.id},
	}
	resp, err := s.deepaasCall(ctx, c, r)
	e := s.observe(ctx, c, err)
	if e == nil || resp.status != 0 {
		return resp
	}
	resp = failure(e)
	if e.Code == actions.Unsupported && verb == actions.Predict && c.accept != "" && c.accept != "*/*" {
		resp.status = http.StatusNotAcceptable
	}
	return resp
}

// deepaasCall runs one call. With an error it may return the response that DEEPaaS has
// for it.
func (s *Server) deepaasCall(ctx context.Context, c *call, r *request) (response, error) {
	m, err := s.lookUp(ctx, c)
	if err != nil {
		return response{}, err
	}
	var bad *jsonError
	c.values, bad, err = parseValues(r)
	if bad != nil {
		return badJSON(bad), actions.Errorf(actions.Invalid, "%s", bad.msg)
	}
	if err != nil {
		return response{}, err
	}
	if c.accept = wanted(c.values); c.accept == "" {
		c.accept = r.accept
	}
	if err := s.invoke(ctx, c, m); err != nil {
		return response{}, err
	}
	return predictions(&c.response), nil
}

// badJSON answers a JSON body that cannot be read, with webargs' words first.
func badJSON(bad *jsonError) response {
	if bad.valid {
		return jsonResponse(http.StatusUnprocessableEntity, map[string][]string{"json": {"Invalid input type."}})
	}
	texts := []string{"Invalid JSON body.", bad.msg}
	if bad.offset > 0 {
		texts[1] = fmt.Sprintf("%s, at byte %d", bad.msg, bad.offset)
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

// predictions answers with what the model answered.
func predictions(a *actions.Response) response {
	if isJSON(a.ContentType) {
		const head, tail = `{"status":"OK","predictions":`, "}\n"
		data := a.Data
		if len(data) == 0 {
			data = []byte("null")
		}
		body := append(make([]byte, 0, len(head)+len(data)+len(tail)), head...)
		return response{status: http.StatusOK, contentType: jsonType, body: append(append(body, data...), tail...)}
	}
	resp := response{status: http.StatusOK, contentType: a.ContentType, body: a.Data}
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
				name = strings.ToValidUTF8(short(name), "?")
				return &actions.Error{
					Code: actions.Invalid, Msg: name + " is not UTF-8",
					Fields: map[string][]string{name: {"is not UTF-8"}},
				}
			}
		}
	}
	return nil
}

const mediaTypes = "send " + jsonType + ", multipart/form-data or application/x-www-form-urlencoded"

// parseBody reads the arguments that are in the body.
func parseBody(r *request) (v actions.Values, bad *jsonError, err error) {
	if len(r.body) == 0 {
		return v, nil, nil
	}
	mediaType, params := r.contentType, map[string]string(nil)
	if mediaType != "" && mediaType != jsonType {
		if mediaType, params, err = mime.ParseMediaType(r.contentType); err != nil {
			return v, nil, actions.Errorf(actions.Invalid, "Content-Type %q is not a media type; %s", short(r.contentType), mediaTypes)
		}
	}
	switch {
	case mediaType == "multipart/form-data":
		v, err = parseMultipart(r.body, params["boundary"])
	case mediaType == "application/x-www-form-urlencoded" && !looksLikeJSON(r.body):
		v.Text, err = parseQuery(string(r.body))
	case mediaType == "", mediaType == jsonType, mediaType == "application/x-www-form-urlencoded", strings.HasSuffix(mediaType, "+json"):
		v.JSON = make(map[string]json.RawMessage, 8)
		bad = scanObject(r.body, func(s *scanner, key []byte) bool {
			raw, ok := s.raw()
			v.JSON[string(key)] = raw
			return ok
		})
	default:
		err = actions.Errorf(actions.Invalid,
			"Content-Type %s is not read; %s", short(mediaType), mediaTypes)
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
		return nil, actions.Errorf(actions.Invalid, "there are more than %d arguments", maxMembers)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "the arguments are not URL-encoded: %w", err)
	}
	return values, nil
}
