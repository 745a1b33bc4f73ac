package proxy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/actions/whisk"
)

// answer makes the answer of what has become of the activation. The error of an action is
// an answer, too, if it is one by the rules of the extension.
func (v *webVisit) answer(outcome *whisk.Outcome) response {
	refuse := func(status int, text string) response { return jsonResponse(status, apiError{text, v.id}) }
	result := outcome.Activation.Response.Result
	switch code := outcome.Activation.Response.Code; {
	case !outcome.Done:
		return refuse(http.StatusAccepted, "Response not yet ready.")
	case code == whisk.ApplicationError:
		if result = memberOf(result, "error"); result == nil {
			return refuse(http.StatusNotFound, noProperty)
		}
	case code != whisk.Success:
		return refuse(http.StatusBadRequest, "There was an error processing your request.")
	}
	resp, status, wrong := project(v.extension, result)
	if wrong != "" {
		return refuse(status, wrong)
	}
	return resp
}

// noProperty is what is said of a result without what the extension asks for.
const noProperty = "Response does not include requested property."

// project makes an answer of a result by the extension of the action's name, or says what
// is wrong with it.
func project(extension string, result json.RawMessage) (resp response, status int, wrong string) {
	switch extension {
	case ".json":
		if !isContainer(result) {
			return resp, http.StatusBadRequest, fmt.Sprintf(notValid, jsonType)
		}
		return response{status: http.StatusOK, contentType: jsonType, body: result}, 0, ""
	case ".html":
		return projectText(result, "html", "text/html")
	case ".svg":
		return projectText(result, "svg", "image/svg+xml")
	case ".text":
		if len(result) > 0 && result[0] == '{' {
			if result = cmpRaw(memberOf(result, "body"), memberOf(result, "text")); result == nil {
				return resp, http.StatusNotFound, noProperty
			}
		}
		body := []byte(result)
		if len(result) > 0 && result[0] == '"' {
			body = []byte(jsonText(result))
		}
		return response{status: http.StatusOK, contentType: "text/plain; charset=UTF-8", body: body}, 0, ""
	}
	parts, wrong := parseWebResult(result)
	if wrong == "" {
		resp, wrong = parts.httpAnswer()
	}
	return resp, http.StatusBadRequest, wrong
}

const notValid = "Response is not valid '%s'."

// projectText answers with the text body, else with the one that is called so.
func projectText(result json.RawMessage, name, contentType string) (resp response, status int, wrong string) {
	if len(result) > 0 && result[0] == '{' {
		result = cmpRaw(memberOf(result, "body"), memberOf(result, name))
	}
	if len(result) == 0 || result[0] != '"' {
		return resp, http.StatusBadRequest, fmt.Sprintf(notValid, contentType)
	}
	if contentType == "text/html" {
		contentType += "; charset=UTF-8"
	}
	return response{status: http.StatusOK, contentType: contentType, body: []byte(jsonText(result))}, 0, ""
}

// cmpRaw returns the first that there is.
func cmpRaw(first, second json.RawMessage) json.RawMessage {
	if first != nil {
		return first
	}
	return second
}

func isContainer(raw json.RawMessage) bool { return len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') }

// memberOf returns a member of an object, nil when there is none.
func memberOf(object json.RawMessage, name string) (found json.RawMessage) {
	_ = scanMembers(object, -1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		if string(key) == name {
			found = raw
		}
		return ok
	})
	return found
}

// What is wrong with the result of a web action, in the words of apache/openwhisk
// (ErrorResponse.scala).
const (
	notHTTP        = "Response is not valid 'message/http'."
	unknownType    = "Response did not specify a known content-type."
	mismatchedType = "Response type in header did not match generated content type."
)

// A webParts is what the result of a web action says.
type webParts struct {
	status int // 0 without one
	header http.Header
	body   json.RawMessage // nil without one
	others bool            // there are other members
}

// parseWebResult reads statusCode, headers and body of a result, which must be an object.
// It returns what is wrong, in OpenWhisk's words.
func parseWebResult(result json.RawMessage) (p webParts, wrong string) {
	ok := true
	bad := scanMembers(result, -1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, read := s.Raw()
		switch {
		case !read:
			return false
		case string(key) == "statusCode":
			p.status, ok = statusOf(raw)
		case string(key) == "headers":
			p.header, ok = headerOf(raw)
		case string(key) == "body":
			p.body = raw
		default:
			p.others = true
		}
		return ok
	})
	if bad != nil || !ok {
		return p, notHTTP
	}
	return p, ""
}

// statusOf reads a status, a whole number or a text of one.
func statusOf(raw json.RawMessage) (int, bool) {
	text := string(raw)
	if raw[0] == '"' {
		text = jsonText(raw)
	}
	n, err := strconv.ParseFloat(text, 64)
	status := int(n)
	return status, err == nil && float64(status) == n && status >= 200 && status < 600
}

// headerOf reads headers: texts, numbers and booleans, or arrays of them. Those that are
// about the connection are left out.
func headerOf(raw json.RawMessage) (http.Header, bool) {
	header := make(http.Header)
	if raw[0] != '{' {
		return nil, false
	}
	ok := true
	bad := scanMembers(raw, -1, func(s *jsonscan.Scanner, key []byte) bool {
		value, read := s.Raw()
		name := string(key)
		ok = ok && read && validName(name) && addValues(header, name, value, 0)
		return read
	})
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "Te"} {
		header.Del(name)
	}
	return header, bad == nil && ok
}

func addValues(header http.Header, name string, raw json.RawMessage, depth int) bool {
	switch raw[0] {
	case '{', 'n':
		return false
	case '[':
		var items []json.RawMessage
		return depth < 8 && json.Unmarshal(raw, &items) == nil && !slices.ContainsFunc(items, func(item json.RawMessage) bool {
			return !addValues(header, name, item, depth+1)
		})
	case '"':
		text := jsonText(raw)
		if strings.ContainsAny(text, "\r\n\x00") {
			return false
		}
		header.Add(name, text)
	default:
		header.Add(name, string(raw))
	}
	return true
}

// validName says whether a text can be the name of a header.
func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?={}", c) >= 0 {
			return false
		}
	}
	return name != ""
}

// httpAnswer makes the HTTP answer of a result that says status, headers and body, or says
// what is wrong with it. Without a type a text is HTML and everything else JSON; a text is
// base64 if the type is binary. An empty body is answered with 204 if no status is said.
func (p *webParts) httpAnswer() (response, string) {
	contentType := p.header.Get("Content-Type")
	mediaType, params := mediaTypeOf(contentType)
	resp := response{status: p.status, header: p.header.Clone()}
	resp.header.Del("Content-Type")
	if resp.status == 0 {
		resp.status = http.StatusOK
	}
	switch {
	case p.empty():
		if p.status == 0 {
			resp.status = http.StatusNoContent
		}
		return resp, ""
	case contentType != "" && !strings.Contains(mediaType, "/"):
		return resp, unknownType
	case p.body[0] != '"':
		if contentType != "" && !isJSONFamily(contentType) {
			return resp, mismatchedType
		}
		resp.contentType, resp.body = jsonType, p.body
		if contentType != "" {
			resp.contentType = mediaType
		}
		return resp, ""
	case contentType == "":
		mediaType = "text/html"
	}
	text := jsonText(p.body)
	isText := isTextType(mediaType, params["charset"] != "")
	resp.body, resp.contentType = []byte(text), contentType
	if isText && !isJSONFamily(mediaType) {
		resp.contentType = mediaType + "; charset=UTF-8"
	}
	if !isText || isJSONFamily(mediaType) && isBase64(text) {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return resp, mismatchedType
		}
		resp.body = data
	}
	return resp, ""
}

func (p *webParts) empty() bool {
	return len(p.body) == 0 || string(p.body) == "null" || string(p.body) == `""`
}

// isBase64 says whether a text looks like base64 to OpenWhisk (Exec.scala).
func isBase64(text string) bool {
	text = strings.TrimSpace(text)
	if len(text) == 0 || len(text)%4 != 0 {
		return false
	}
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil
}
