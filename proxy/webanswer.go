package proxy

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

// webAnswer makes the result of a web action of the answer to its request: statusCode,
// headers and body. One over the limit of OpenWhisk becomes an error that says so.
func (s *Server) webAnswer(c *call, answer *response) response {
	result := webResult(answer)
	if limit := s.cfg.MaxPayload; limit > 0 && int64(len(result)) > limit {
		c.answered = actions.Errorf(actions.TooLarge,
			"the answer has %d bytes, which OpenWhisk takes as %d; the limit is %d: ask for less, or "+byReferenceHint,
			len(answer.body), len(result), limit)
		small := failure(c.answered)
		result = webResult(&small)
	}
	return response{status: http.StatusOK, contentType: jsonType, body: result}
}

// webResult writes an answer as OpenWhisk takes it: JSON as it is, text as a string, and
// everything else in base64.
func webResult(answer *response) []byte {
	contentType, body := webValue(answer.contentType, answer.body)
	header := fields{}
	for _, h := range []struct{ name, value string }{
		{"content-type", contentType},
		{"allow", answer.allow},
		{"location", answer.location},
		{"content-disposition", answer.disposition},
		{"content-security-policy", answer.policy},
	} {
		if h.value != "" {
			header[h.name] = h.value
		}
	}
	if answer.retryAfter > 0 {
		header["retry-after"] = strconv.Itoa(answer.retryAfter)
	}
	if answer.contentType != jsonType {
		header["x-content-type-options"] = "nosniff"
	}
	for name, values := range answer.header {
		header[strings.ToLower(name)] = values
	}
	head := jsonResponse(0, header).body
	result := make([]byte, 0, len(head)+len(body)+64)
	result = fmt.Appendf(result, `{"statusCode":%d,"headers":%s`, answer.status, bytes.TrimSpace(head))
	if len(body) > 0 {
		result = append(append(result, `,"body":`...), body...)
	}
	return append(result, '}')
}

// webValue is the JSON value of a body, and the Content-Type with which OpenWhisk makes the
// same bytes of it: text has to say its charset, and what is no text must not be called so.
func webValue(contentType string, body []byte) (string, []byte) {
	if len(body) == 0 {
		return "", nil
	}
	mediaType, params := mediaTypeOf(contentType)
	if isJSONFamily(mediaType) {
		first := bytes.TrimLeft(body, " \t\r\n")
		if len(first) > 0 && (first[0] == '{' || first[0] == '[') {
			return contentType, bytes.TrimSpace(body)
		}
		return mediaType, base64Value(body) // which is decoded, as no other text of JSON is
	}
	if !isTextType(mediaType, params["charset"] != "") {
		return contentType, base64Value(body)
	}
	if !utf8.Valid(body) {
		return "application/octet-stream", base64Value(body)
	}
	return mediaType + "; charset=utf-8", bytes.TrimSpace(jsonResponse(0, string(body)).body)
}

func base64Value(body []byte) []byte {
	value := make([]byte, 0, base64.StdEncoding.EncodedLen(len(body))+2)
	return append(base64.StdEncoding.AppendEncode(append(value, '"'), body), '"')
}
