package proxy

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// webRequest makes the HTTP request again that a gateway has made the arguments of a web
// action of (apache/openwhisk, core/controller: WebActions.scala).
func webRequest(a *activation, m actions.Model) (request, error) {
	r := request{
		method: strings.ToUpper(jsonText(a.values[webPrefix+"method"])),
		path:   unescapePath(jsonText(a.values[webPrefix+"path"])),
	}
	header, err := webHeader(a.values[webPrefix+"headers"])
	if err != nil {
		return r, err
	}
	r.header = func(name string, each func(name, value string)) {
		if name != "" {
			for _, value := range header.Values(name) {
				each(name, value)
			}
			return
		}
		for name, values := range header {
			for _, value := range values {
				each(name, value)
			}
		}
	}
	r.contentType, r.accept = header.Get("Content-Type"), header.Get("Accept")
	body, hasBody := a.values[webPrefix+"body"]
	if raw, ok := a.values[webPrefix+"query"]; ok {
		r.query = jsonText(raw)
		r.body = webBody(&r, body, true)
		return r, nil
	}
	text, rest, err := webMembers(a.value, &r, m, hasBody)
	if err != nil {
		return r, err
	}
	switch {
	case hasBody:
		r.query, r.body = text.Encode(), webBody(&r, body, false)
	case isForm(r.contentType):
		r.body = []byte(text.Encode())
	default:
		r.query = text.Encode()
		if r.body = rest; rest != nil && !isJSONFamily(r.contentType) {
			r.contentType = jsonType
		}
	}
	return r, nil
}

// unescapePath decodes a path, segment by segment. One that would become another by that,
// with dot segments or slashes, is left as it is, which is no route's.
func unescapePath(path string) string {
	if !strings.ContainsAny(path, "%.") {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil || plain == "." || plain == ".." || strings.ContainsAny(plain, "/\\") {
			return path
		}
		segments[i] = plain
	}
	return strings.Join(segments, "/")
}

// webHeader reads the headers of a request, an object of texts.
func webHeader(raw json.RawMessage) (http.Header, error) {
	header := make(http.Header)
	if len(raw) == 0 || raw[0] != '{' {
		return header, nil
	}
	bad := scanObject(raw, func(s *jsonscan.Scanner, key []byte) bool {
		name := string(key)
		value, ok := s.Raw()
		if text := jsonText(value); ok && text != "" {
			header.Add(name, text)
		}
		return ok
	})
	if bad != nil {
		return nil, actions.Errorf(actions.Invalid, "__ow_headers: %s", bad.msg)
	}
	return header, nil
}

// webMembers takes the arguments that are no part of the HTTP context, which OpenWhisk has
// merged of the action's own parameters, the query string and the body: texts, and the rest
// as one JSON object, nil for none. What belongs to a body that is JSON stays JSON, but for
// texts of what is no text to the model: these are from the query string.
func webMembers(value json.RawMessage, r *request, m actions.Model, hasBody bool) (text url.Values, rest []byte, err error) {
	types := make(map[string]actions.ArgumentType)
	for _, arg := range m.Arguments {
		types[arg.Name] = arg.Type
	}
	asText := hasBody || isForm(r.contentType)
	if !asText && !isJSONFamily(r.contentType) {
		asText = r.method == http.MethodGet || r.method == http.MethodHead || r.method == http.MethodDelete
	}
	text = make(url.Values)
	bad := scanObject(value, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		switch name := string(key); {
		case !ok, strings.HasPrefix(name, webPrefix):
		case asText:
			addText(text, name, raw)
		case raw[0] == '"' && isTyped(types[name]):
			text.Set(name, jsonText(raw))
		default:
			rest = appendPair(rest, name, raw)
		}
		return ok
	})
	if bad != nil {
		return nil, nil, actions.Errorf(actions.Invalid, "Error unmarshaling request: %s", bad.msg)
	}
	if rest != nil {
		rest = append(rest, '}')
	}
	return text, rest, nil
}

// isTyped says whether a text in JSON cannot be a value of that type.
func isTyped(t actions.ArgumentType) bool {
	switch t {
	case actions.TypeInteger, actions.TypeNumber, actions.TypeBoolean, actions.TypeArray, actions.TypeObject:
		return true
	case actions.TypeString, actions.TypeFile, actions.TypeAny:
	}
	return false
}

// addText adds a value as the text that a form has for it: each item of an array by itself.
func addText(text url.Values, name string, raw json.RawMessage) {
	var items []json.RawMessage
	if raw[0] == '[' && json.Unmarshal(raw, &items) == nil {
		for _, item := range items {
			if one, ok := textOf(item); ok {
				text.Add(name, one)
			}
		}
		return
	}
	if one, ok := textOf(raw); ok {
		text.Set(name, one)
	}
}

// appendPair appends a member to an object that is not closed.
func appendPair(object []byte, name string, raw json.RawMessage) []byte {
	lead := byte(',')
	if object == nil {
		lead = '{'
	}
	quoted, err := json.Marshal(name)
	if err != nil { // a string can always be one
		return object
	}
	object = append(append(append(object, lead), quoted...), ':')
	return append(object, raw...)
}

// webBody decodes a body. It is base64 for types that are binary, and in raw mode for JSON;
// not in raw mode a body of JSON that is no object stands there as it is.
func webBody(r *request, raw json.RawMessage, isRaw bool) []byte {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if raw[0] != '"' || !isRaw && isJSONFamily(r.contentType) {
		if !isJSONFamily(r.contentType) {
			r.contentType = jsonType
		}
		return raw
	}
	text := jsonText(raw)
	mediaType, params := mediaTypeOf(r.contentType)
	switch {
	case isTextType(mediaType, params["charset"] != "") && !isJSONFamily(mediaType),
		strings.HasPrefix(mediaType, "multipart/") && strings.HasPrefix(text, "--"),
		isJSONFamily(mediaType) && strings.HasPrefix(strings.TrimSpace(text), "{"):
		return []byte(text)
	}
	if data, err := base64.StdEncoding.DecodeString(text); err == nil {
		return data
	}
	return []byte(text)
}

// mediaTypeOf takes a Content-Type apart; the type is empty when it is none.
func mediaTypeOf(contentType string) (string, map[string]string) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil && mediaType == "" {
		return "", nil
	}
	return mediaType, params
}

func isForm(contentType string) bool {
	mediaType, _ := mediaTypeOf(contentType)
	return mediaType == formType
}

// isJSONFamily says whether a Content-Type is that of JSON, or of what is written in it.
func isJSONFamily(contentType string) bool {
	if contentType == jsonType {
		return true
	}
	mediaType, _ := mediaTypeOf(contentType)
	return mediaType == jsonType || strings.HasSuffix(mediaType, "+json")
}

// isTextType says whether OpenWhisk takes a media type for text, as the registry of
// apache/pekko-http has it (MediaType.scala): a type of an application that is not in it is
// text if it says in which charset.
func isTextType(mediaType string, charset bool) bool {
	switch mediaType {
	case jsonType, formType, "application/javascript", "application/xml", "application/xml-dtd",
		"application/json-patch+json", "application/merge-patch+json", "application/problem+json",
		"application/vnd.api+json", "application/atom+xml", "application/rss+xml", "application/soap+xml",
		"application/xhtml+xml", "application/problem+xml", "application/vnd.google-earth.kml+xml",
		"application/base64", "application/x-latex", "application/x-vrml":
		return true
	case "image/svg+xml":
		return false
	}
	kind, _, _ := strings.Cut(mediaType, "/")
	switch kind {
	case "text":
		return true
	case "multipart":
		return false
	}
	return charset
}
