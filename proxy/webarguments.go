package proxy

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// arguments makes the arguments of the action: the HTTP context, and query and body, or
// members of them unless the action takes requests as they are.
func (v *webVisit) arguments() (json.RawMessage, error) {
	query, err := url.ParseQuery(v.query)
	if err != nil {
		return nil, malformedQuery(short(v.query), "it is not URL-encoded")
	}
	members := map[string]json.RawMessage{}
	body, err := v.bodyMembers(members)
	if err != nil {
		return nil, err
	}
	if v.raw {
		members = map[string]json.RawMessage{webPrefix + "query": quoted(v.query)}
		if body == nil {
			body = quoted("")
		}
	} else {
		for name, values := range query {
			if _, ok := members[name]; !ok {
				members[name] = quoted(values[len(values)-1])
			}
		}
		if err := v.checkMembers(members); err != nil {
			return nil, err
		}
	}
	if body != nil {
		members[webPrefix+"body"] = body
	}
	return v.addContext(members), nil
}

// addContext makes one object of the members and the HTTP context.
func (v *webVisit) addContext(members map[string]json.RawMessage) json.RawMessage {
	header := map[string]string{}
	if v.header != nil {
		v.header("", func(name, value string) {
			name = strings.ToLower(name)
			if before, ok := header[name]; ok {
				value = before + ", " + value
			}
			header[name] = strings.ToValidUTF8(value, "\uFFFD")
		})
	}
	members[webPrefix+"method"] = quoted(strings.ToLower(v.method))
	members[webPrefix+"headers"] = jsonResponse(0, header).body
	members[webPrefix+"path"] = quoted(v.rest)
	if v.user != "" {
		members[webPrefix+"user"] = quoted(v.user)
	}
	return jsonResponse(0, members).body
}

func quoted(text string) json.RawMessage {
	return json.RawMessage(strings.TrimSpace(string(jsonResponse(0, text).body)))
}

// bodyMembers takes the members of a body, a JSON object or a form, or returns the body as
// one value: text as it is, and JSON in raw mode and what is binary in base64.
func (v *webVisit) bodyMembers(members map[string]json.RawMessage) (json.RawMessage, error) {
	if len(v.body) == 0 {
		return nil, nil
	}
	mediaType, params := mediaTypeOf(v.contentType)
	switch {
	case isJSONFamily(mediaType) && !v.raw:
		return v.jsonMembers(members)
	case mediaType == formType && !v.raw:
		form, err := url.ParseQuery(string(v.body))
		if err != nil {
			return nil, malformedContent("the form is not URL-encoded")
		}
		for name, values := range form {
			members[name] = quoted(values[len(values)-1])
		}
		return nil, nil
	case mediaType != jsonType && isTextType(mediaType, params["charset"] != ""):
		return quoted(strings.ToValidUTF8(string(v.body), "\uFFFD")), nil
	}
	return base64Value(v.body), nil
}

// jsonMembers takes the members of a JSON object; any other JSON is returned as it is.
func (v *webVisit) jsonMembers(members map[string]json.RawMessage) (json.RawMessage, error) {
	bad := scanObject(v.body, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		members[string(key)] = raw
		return ok
	})
	switch {
	case bad == nil:
		return nil, nil
	case bad.valid:
		return json.RawMessage(strings.TrimSpace(string(v.body))), nil
	}
	return nil, malformedContent(bad.msg)
}

// checkMembers refuses arguments that are not the caller's to give: those of the HTTP
// context, and with the annotation final those that the action has.
func (v *webVisit) checkMembers(members map[string]json.RawMessage) error {
	final := v.isTrue("final")
	for name := range members {
		own := v.action.Parameters.Lookup(name)
		if isContext(name) || final && len(own) > 0 && string(own) != "null" {
			return actions.Errorf(actions.Invalid,
				"Request defines parameters that are not allowed (e.g., reserved properties).")
		}
	}
	return nil
}

// isContext says whether an argument is one of the HTTP context.
func isContext(name string) bool {
	switch name {
	case "__ow_method", "__ow_headers", "__ow_path", "__ow_user", "__ow_query", "__ow_body":
		return true
	}
	return false
}
