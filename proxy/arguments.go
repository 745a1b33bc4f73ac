package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

const (
	// maxName is how many bytes the name of an argument may have.
	maxName = 8 << 10
	// maxContext is how many bytes an activation may have beside its value, for the
	// environment of a function.
	maxContext = 64 << 10
	// activationID is the variable by which a model tells that OpenWhisk invokes it.
	activationID = "__OW_ACTIVATION_ID"
)

// A given is what a caller gave to a model that parses its own arguments.
type given struct {
	is     bool // there was such a caller
	args   json.RawMessage
	texts  []actions.Text
	files  []actions.File
	accept string // what the argument accept says
	size   int    // of the texts of a form
	refers bool   // args may hold references
}

// parseGiven reads what the caller of a DEEPaaS route gave, without looking into it
// further than to find the arguments.
func parseGiven(r *request) (g given, bad *jsonError, err error) {
	g.is = true
	if err := g.addQuery(actions.FromQuery, r.query); err != nil {
		return g, nil, err
	}
	if bad, err := g.addBody(r); bad != nil || err != nil {
		return g, bad, err
	}
	for _, t := range g.texts {
		if len(t.Name) > maxName {
			return g, nil, actions.Errorf(actions.Invalid, "the name of an argument has more than %d bytes", maxName)
		}
		if !utf8.ValidString(t.Name) || !utf8.ValidString(t.Value) {
			return g, nil, notUTF8(t.Name)
		}
	}
	for _, t := range g.texts {
		if t.Name == "accept" {
			g.accept = t.Value
			break
		}
	}
	return g, nil, nil
}

// addQuery adds the texts of a query string or of a simple form, in their order.
func (g *given) addQuery(origin actions.Origin, query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		if len(g.texts) == maxGiven {
			return tooManyArguments(maxGiven)
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return notEncoded(err)
		}
		g.texts = append(g.texts, actions.Text{Origin: origin, Name: name, Value: value})
	}
	return nil
}

// addBody adds what is in the body.
func (g *given) addBody(r *request) (*jsonError, error) {
	kind, boundary, _ := bodyKind(r) // in a body of another type upstream finds no arguments either
	switch kind {
	case noBody:
	case formBody:
		if err := takeForm(r); err != nil {
			return nil, err
		}
		return nil, g.addQuery(actions.FromForm, strings.TrimRight(string(r.body), " \t\r\n"))
	case multipartBody:
		return nil, scanMultipart(r, boundary, func(p part) error { return g.addPart(r, p) })
	case jsonBody:
		if text := bytes.TrimSpace(r.body); string(text) == "null" || r.contentType == "" && !looksLikeJSON(r.body) {
			return nil, nil // no arguments
		}
		g.args = r.body
		return scanMembers(r.body, -1, func(s *jsonscan.Scanner, key []byte) bool {
			raw, ok := s.Raw()
			if string(key) == "accept" {
				g.accept = jsonText(raw)
			}
			g.refers = g.refers || holdsReference(string(key), raw)
			return ok
		}), nil
	}
	return nil, nil
}

// addPart adds one part of a form: a file when it has a file name, else a text. A file
// field of a page that was left empty is nothing.
func (g *given) addPart(r *request, p part) error {
	switch {
	case p.filename == "" && p.isFile && len(p.data) == 0:
		return nil
	case p.isFile, !isText(p.contentType) && !utf8.Valid(p.data):
		if !utf8.ValidString(p.name) {
			return notUTF8(p.name)
		}
		g.files = append(g.files, p.file())
	case len(g.texts) == maxGiven:
		return tooManyArguments(maxGiven)
	case g.size+len(p.data) > maxTexts:
		return longTexts()
	default:
		if err := r.take(int64(len(p.data))); err != nil {
			return err
		}
		g.size += len(p.data)
		g.texts = append(g.texts, actions.Text{Origin: actions.FromForm, Name: p.name, Value: string(p.data)})
	}
	return nil
}

// addHeaders adds the headers that parameters of the verb are looked for in. Before the
// model has said which, these are all that may be, by their names in lower case. Accept
// is in the request anyway.
func (g *given) addHeaders(r *request, known bool, sig *actions.Signature) {
	if r.header == nil || known && sig == nil {
		return
	}
	found := &given{texts: g.texts} // for g, which is a part of a call, to need no memory of its own
	defer func() { g.texts = found.texts }()
	if !known {
		r.header("", func(name, value string) {
			if name = strings.ToLower(name); !ofTransport(name) {
				found.addHeader(name, value)
			}
		})
		return
	}
	cookie := false
	for _, p := range sig.Parameters {
		switch {
		case p.Location == "headers":
			r.header(p.Name, func(_, value string) { found.addHeader(p.Name, value) })
		case p.Location == "cookies" && !cookie:
			cookie = true
			r.header("Cookie", func(_, value string) { found.addHeader("Cookie", value) })
		}
	}
}

// ofTransport says whether a header is about this connection or this body, and no
// argument: a model behind another server would send it on.
func ofTransport(name string) bool {
	switch name {
	case "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect",
		"content-length", "content-type", "content-encoding", "accept-encoding", "accept":
		return true
	}
	return strings.HasPrefix(name, "proxy-")
}

func (g *given) addHeader(name, value string) {
	if len(g.texts) < 2*maxMembers && utf8.ValidString(name) && utf8.ValidString(value) {
		g.texts = append(g.texts, actions.Text{Origin: actions.FromHeader, Name: name, Value: value})
	}
}

// given is what the caller of a /run gave: the value as it came, and what the platform
// says beside it as the variables that OpenWhisk's documentation names. The activation's
// id is always there: it tells a model that all of its arguments come as JSON.
func (a *activation) given(id string) (g given, err error) {
	g.is = true
	if a.kind == '{' || a.kind == '[' {
		g.args = a.value
	}
	g.accept = jsonText(a.values["accept"])
	g.refers = a.many
	for name, raw := range a.values {
		g.refers = g.refers || holdsReference(name, raw)
	}
	if a.id == "" {
		g.texts = []actions.Text{{Origin: actions.FromContext, Name: activationID, Value: id}}
	}
	g.texts = append(g.texts, a.context...)
	size := 0
	for _, m := range a.others {
		if !isVariable(m.key) || string(m.key) == "activation_id" && a.id == "" {
			continue
		}
		if size += len(m.key) + len(m.raw); size > maxContext {
			return g, actions.Errorf(actions.Invalid, "the activation has more than %d bytes beside its value", maxContext)
		}
		value, ok := textOf(m.raw)
		if ok && !strings.Contains(value, "\x00") {
			g.texts = append(g.texts, actions.Text{
				Origin: actions.FromContext, Name: "__OW_" + strings.ToUpper(string(m.key)), Value: value,
			})
		}
	}
	return g, nil
}

// isVariable says whether a key can be a part of the name of a variable.
func isVariable(key []byte) bool {
	for _, c := range key {
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return len(key) > 0
}

func notUTF8(name string) *actions.Error {
	name = strings.ToValidUTF8(short(name), "?")
	return &actions.Error{
		Code: actions.Invalid, Msg: name + " is not UTF-8",
		Fields: map[string][]string{name: {"is not UTF-8"}},
	}
}

func notEncoded(err error) *actions.Error {
	return actions.Errorf(actions.Invalid, "the arguments are not URL-encoded: %w", err)
}

func tooManyArguments(limit int) *actions.Error {
	return actions.Errorf(actions.Invalid, "there are more than %d arguments", limit)
}

// A kind of a body decides how arguments are found in it.
type kind uint8

const (
	noBody kind = iota
	jsonBody
	formBody
	multipartBody
)

// takeForm takes the memory for the texts of a simple form.
func takeForm(r *request) error {
	if len(r.body) > maxTexts {
		return longTexts()
	}
	return r.take(int64(len(r.body)))
}

// takeDecoded takes the memory for the files in a JSON body, which are base64.
func (r *request) takeDecoded() error {
	if len(r.body) <= payload {
		return nil
	}
	return r.take(int64(len(r.body)) / 4 * 3)
}

const mediaTypes = "send " + jsonType + ", multipart/form-data or application/x-www-form-urlencoded"

// bodyKind says what kind of a body a request has, and the boundary of its parts.
func bodyKind(r *request) (k kind, boundary string, err error) {
	if len(r.body) == 0 {
		return noBody, "", nil
	}
	mediaType, params := r.contentType, map[string]string(nil)
	if mediaType != "" && mediaType != jsonType {
		mediaType, params, err = mime.ParseMediaType(r.contentType)
		if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
			return noBody, "", actions.Errorf(actions.Invalid,
				"Content-Type %q is not a media type; %s", short(r.contentType), mediaTypes)
		}
	}
	switch {
	case mediaType == "multipart/form-data":
		return multipartBody, params["boundary"], nil
	case mediaType == formType && !looksLikeJSON(r.body):
		return formBody, "", nil
	case mediaType == "", mediaType == jsonType, mediaType == formType, strings.HasSuffix(mediaType, "+json"):
		return jsonBody, "", nil
	}
	return noBody, "", actions.Errorf(actions.Invalid, "Content-Type %s is not read; %s", short(mediaType), mediaTypes)
}
