package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

const (
	// byReferenceHint is the way around a limit of results that an error names.
	byReferenceHint = "have it stored elsewhere, with result_to, a URL, beside the arguments"
	// resultTo is the argument that says where a result is stored.
	resultTo = "result_to"
	// maxReferences is how many references a request may hold.
	maxReferences = 100
	// maxReference is how long one may be, as JSON.
	maxReference = 64 << 10
)

// A reference is an argument's value that is elsewhere, {"url", "filename", "content_type"}.
type reference struct {
	argument string
	at       int // its place in the list that is the argument's value, -1 if it is the value
	url      string
	file     actions.File // what the caller says of it, then what is there
}

// expected is how a model takes an argument.
type expected struct {
	kind  actions.ArgumentType
	files bool // it takes files
}

// References are what one call gives by reference.
type references struct {
	list []*reference
	// lists are the values of arguments that are lists with references among them.
	lists map[string][]json.RawMessage
	// to is the URL that the result is stored at, "" for none.
	to string
	// function says that the model is a function that takes all arguments at once, which
	// may do all of this by itself.
	function bool

	spools []*spool
	bodies *budget
	taken  int64 // of bodies
}

// close gives back what was fetched, which nobody may use any more. Nil is nothing.
func (refs *references) close() {
	if refs == nil {
		return
	}
	for _, sp := range refs.spools {
		if sp != nil {
			sp.close()
		}
	}
	refs.spools = nil
	refs.bodies.give(refs.taken)
	refs.taken = 0
}

// refer finds what a call gives by reference and puts what is there into its place. It asks
// whether the result may be stored before the model has any work.
func (s *Server) refer(ctx context.Context, c *call, m actions.Model) error {
	if !c.mayRefer(m) {
		return nil
	}
	takes, function, err := s.expects(ctx, c, m)
	if err != nil || takes == nil && !function {
		return err
	}
	refs := &references{function: function, bodies: s.bodies, lists: map[string][]json.RawMessage{}}
	c.references = refs
	members := c.members(m)
	if _, own := takes[resultTo]; !own && c.request.Verb != actions.ParseTrain {
		if err := s.findTarget(c, refs, members); err != nil {
			return err
		}
	}
	if err := refs.find(c, members, takes); err != nil {
		return err
	}
	if len(refs.list) > 0 {
		if s.cfg.Storage == nil {
			return wrongReference(refs.list[0].argument, "is given by reference, which this server does not fetch; send the bytes")
		}
		if err := s.fetch(ctx, refs); err != nil {
			return err
		}
	}
	return c.replace(m, refs, members, takes)
}

// mayRefer says whether there is any use in looking for references, without parsing.
func (c *call) mayRefer(m actions.Model) bool {
	switch {
	case c.request.Verb == actions.Metadata, !m.ParsesArguments() && c.request.Verb == actions.Train:
		return false
	case m.ParsesArguments():
		return c.given.refers || slices.ContainsFunc(c.given.texts, func(t actions.Text) bool {
			return isParameter(t) && (t.Name == resultTo || mayBeReference(t.Value))
		})
	}
	for name, raw := range c.values.JSON {
		if holdsReference(name, raw) {
			return true
		}
	}
	for name, texts := range c.values.Text {
		if name == resultTo || slices.ContainsFunc(texts, mayBeReference) {
			return true
		}
	}
	return false
}

// holdsReference says whether a member of the arguments may be a reference or have one in
// it. Of a text it reads the first byte alone: files in base64 are long.
func holdsReference(name string, raw json.RawMessage) bool {
	return name == resultTo || len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') && bytes.Contains(raw, []byte(`"url"`))
}

// isParameter says whether a text is one that the caller gave by name.
func isParameter(t actions.Text) bool {
	return t.Origin == actions.FromQuery || t.Origin == actions.FromForm
}

// mayBeReference says whether a text may be a reference, which no other file in a text is.
func mayBeReference(text string) bool {
	return len(text) <= maxReference && strings.HasPrefix(strings.TrimSpace(text), "{") && strings.Contains(text, `"url"`)
}

// expects returns how a model takes its arguments. A function that takes all of them at once
// has none. Only the model's own program knows, so it is started if need be.
func (s *Server) expects(ctx context.Context, c *call, m actions.Model) (takes map[string]expected, function bool, err error) {
	if !m.ParsesArguments() {
		takes = make(map[string]expected, len(m.Arguments))
		for _, a := range m.Arguments {
			// An array may be a file of a raw tensor, too.
			takes[a.Name] = expected{a.Type, a.Type == actions.TypeFile || a.Type == actions.TypeArray}
		}
		return takes, false, nil
	}
	function, err = s.isFunction(ctx, c, m)
	if err != nil || function {
		return nil, function, err
	}
	if m.Runtime == actions.HTTP && s.description(m) == nil { // which isFunction does not start
		if c.begun, err = s.cfg.Invoker.Invoke(ctx, preparing(ctx, m.Name, c.request.ID, c.request.Trace)); err != nil {
			return nil, false, err
		}
	}
	sig := signature(s.description(m), c.request.Verb)
	if sig == nil {
		return nil, false, nil
	}
	takes = make(map[string]expected, len(sig.Parameters))
	for _, p := range sig.Parameters {
		takes[p.Name] = expected{p.Type, p.Type == actions.TypeFile || isBinary(p.Schema)}
	}
	return takes, false, nil
}

// isBinary says whether a schema is that of bytes, or of a list of them.
func isBinary(raw json.RawMessage) bool {
	type schema struct {
		Format string            `json:"format"`
		Items  json.RawMessage   `json:"items"`
		AnyOf  []json.RawMessage `json:"anyOf"`
	}
	var is schema
	if len(raw) == 0 || json.Unmarshal(raw, &is) != nil {
		return false
	}
	return is.Format == "binary" || isBinary(is.Items) || slices.ContainsFunc(is.AnyOf, isBinary)
}

// members are the arguments that a caller gave as JSON; nil when they are no object.
func (c *call) members(m actions.Model) map[string]json.RawMessage {
	if !m.ParsesArguments() {
		return c.values.JSON
	}
	members := map[string]json.RawMessage{}
	_ = scanMembers(c.given.args, -1, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		if !ok {
			return false
		}
		if raw[0] == '{' || raw[0] == '[' || string(key) == resultTo {
			members[string(key)] = raw
		} else {
			delete(members, string(key)) // the last of a name counts
		}
		return true
	})
	return members
}

// findTarget finds where the result is to be stored, and whether it may be.
func (s *Server) findTarget(c *call, refs *references, members map[string]json.RawMessage) error {
	to, given := "", false
	if texts := c.texts(resultTo); len(texts) > 0 {
		to, given = texts[0], true
	} else if raw, ok := members[resultTo]; ok && string(raw) != "null" {
		to, given = jsonText(raw), true
	}
	switch {
	case !given:
		return nil
	case refs.function && !isURL(to):
		return nil // it is another argument of that name
	case to == "":
		return wrongReference(resultTo, "must be a URL to store the result at, as a string")
	case s.cfg.Storage == nil:
		return wrongReference(resultTo, "is given, and this server stores no results")
	}
	if err := s.cfg.Storage.MayStore(to); err != nil {
		return referenceError(resultTo, "cannot be stored at: ", err)
	}
	refs.to = to
	return nil
}

// isURL says whether a text begins like a URL of a storage.
func isURL(text string) bool {
	return slices.ContainsFunc([]string{"https://", "http://", "s3://", "gs://", "azblob://", "file://"}, func(scheme string) bool {
		return strings.HasPrefix(text, scheme)
	})
}

// texts are the texts of a name that a query string or a form has.
func (c *call) texts(name string) []string {
	if !c.given.is {
		return slices.DeleteFunc(slices.Clone(c.values.Text[name]), func(text string) bool { return strings.TrimSpace(text) == "" })
	}
	var found []string
	for _, t := range c.given.texts {
		if t.Name == name && isParameter(t) && strings.TrimSpace(t.Value) != "" {
			found = append(found, t.Value)
		}
	}
	return found
}

// find finds the references among the arguments that are not given otherwise too.
func (refs *references) find(c *call, members map[string]json.RawMessage, takes map[string]expected) error {
	for _, name := range slices.Sorted(keysOf(takes)) {
		e := takes[name]
		if e.kind == actions.TypeObject || e.kind == actions.TypeAny && !e.files {
			continue // there it is an object like any other
		}
		var err error
		if texts := c.texts(name); len(texts) > 0 {
			if e.files {
				err = refs.findIn(name, slices.Collect(asJSON(texts)), len(texts) > 1)
			}
		} else if raw, ok := members[name]; ok && raw[0] == '{' {
			err = refs.findIn(name, []json.RawMessage{raw}, false)
		} else if ok && raw[0] == '[' && e.files {
			err = refs.findIn(name, elements(raw), true)
		}
		if err != nil {
			return err
		}
		if len(refs.list) > maxReferences {
			return actions.Errorf(actions.Invalid, "there are more than %d arguments by reference", maxReferences)
		}
	}
	return nil
}

// asJSON are texts as they would stand in JSON; a reference is JSON already.
func asJSON(texts []string) func(yield func(json.RawMessage) bool) {
	return func(yield func(json.RawMessage) bool) {
		for _, text := range texts {
			raw := json.RawMessage(strings.TrimSpace(text))
			if !mayBeReference(text) || !json.Valid(raw) {
				raw = quoted(text)
			}
			if !yield(raw) {
				return
			}
		}
	}
}

// elements are the elements of an array.
func elements(array json.RawMessage) []json.RawMessage {
	if !bytes.Contains(array, []byte(`"url"`)) {
		return nil
	}
	var list []json.RawMessage
	if !jsonscan.New(array).Array(func(s *jsonscan.Scanner) bool {
		raw, ok := s.Raw()
		list = append(list, raw)
		return ok
	}) {
		return nil
	}
	return list
}

// findIn finds the references in the values of one argument.
func (refs *references) findIn(name string, values []json.RawMessage, list bool) error {
	found := false
	for i, raw := range values {
		ref, is, err := parseReference(raw)
		if err != nil {
			return wrongReference(name, err.Error())
		}
		if !is {
			continue
		}
		found = true
		ref.argument, ref.at = name, -1
		if list {
			ref.at = i
		}
		refs.list = append(refs.list, ref)
	}
	if found && list {
		refs.lists[name] = values
	}
	return nil
}

// parseReference reads a reference; an object without url, and what is no object, is none.
func parseReference(raw json.RawMessage) (ref *reference, is bool, err error) {
	if len(raw) == 0 || raw[0] != '{' || len(raw) > maxReference {
		return nil, false, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members["url"] == nil {
		return nil, false, nil //nolint:nilerr // what is no object is no reference
	}
	ref = &reference{}
	for _, name := range slices.Sorted(keysOf(members)) {
		text := jsonText(members[name])
		switch {
		case name != "url" && name != "filename" && name != "content_type":
			return nil, true, fmt.Errorf("is an object with url and the member %q; by reference it has url, filename and content_type", short(name))
		case members[name][0] != '"' && string(members[name]) != "null":
			return nil, true, fmt.Errorf("is an object whose member %s must be a string", name)
		}
		switch name {
		case "url":
			ref.url = text
		case "filename":
			ref.file.Filename = baseName(text)
		case "content_type":
			ref.file.ContentType = text
		}
	}
	return ref, true, nil
}

// document is a fetched document as the value of an argument that is no file.
func (ref *reference) document(kind actions.ArgumentType) (json.RawMessage, error) {
	data := ref.file.Data
	if !utf8.Valid(data) {
		return nil, wrongReference(ref.argument, fmt.Sprintf("is given by reference, and what is at %s is not UTF-8", shownURL(ref.url)))
	}
	if kind == actions.TypeString {
		return quoted(string(data)), nil
	}
	s := jsonscan.New(data)
	if raw, ok := s.Raw(); ok && s.AtEnd() {
		return raw, nil
	}
	return nil, wrongReference(ref.argument, fmt.Sprintf("is given by reference, and what is at %s is not JSON", shownURL(ref.url)))
}
