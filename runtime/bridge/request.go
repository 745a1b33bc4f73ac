package bridge

import (
	"bytes"
	"encoding/json"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/deepfn/deepfn/actions"
)

// maxQuery is the most bytes of arguments in a URL: servers refuse long ones, with the
// other headers, from 8 KiB on.
const maxQuery = 4 << 10

// An outgoing is a request to the server.
type outgoing struct {
	query       url.Values
	header      http.Header
	contentType string
	body        []byte
}

// A draft is an outgoing whose form has not been written.
type draft struct {
	outgoing
	parameters []parameter
	form       []field
	files      []actions.File
	queried    int  // bytes of arguments in query
	accepts    bool // the arguments say which media type is wanted
}

// A field is one of a form.
type field struct{ name, value string }

// newRequest makes the request of a verb that has such parameters.
func (p *Program) newRequest(req *actions.Request, parameters []parameter) (*outgoing, error) {
	d := &draft{
		outgoing:   outgoing{query: url.Values{}, header: http.Header{}},
		parameters: parameters, files: slices.Clone(req.Files),
	}
	for _, t := range req.Texts {
		switch t.Origin {
		case actions.FromQuery:
			d.query.Add(t.Name, t.Value)
		case actions.FromForm:
			d.form = append(d.form, field{t.Name, t.Value})
		case actions.FromHeader:
			d.setHeader(t.Name, t.Value)
		case actions.FromContext:
		}
	}
	d.setTrace(req.Trace)
	if err := d.takeArgs(req.Args); err != nil {
		return nil, err
	}
	if err := d.accept(req.Accept); err != nil {
		return nil, err
	}
	return &d.outgoing, d.write()
}

// setHeader sets a header, if the server looks for an argument there.
func (d *draft) setHeader(name, value string) {
	for _, p := range d.parameters {
		if p.In == "header" && strings.EqualFold(p.Name, name) && !hasControl(value) {
			d.header.Set(name, value)
		}
	}
}

// setTrace has the server's spans be below those of the request.
func (d *draft) setTrace(trace actions.Trace) {
	if trace.Parent == "" || hasControl(trace.Parent) {
		return
	}
	d.header.Set("traceparent", trace.Parent)
	if trace.State != "" && !hasControl(trace.State) {
		d.header.Set("tracestate", trace.State)
	}
}

// takeArgs puts the arguments that came as JSON where they belong.
func (d *draft) takeArgs(args json.RawMessage) error {
	if len(args) == 0 {
		return nil
	}
	if !json.Valid(args) {
		return actions.Errorf(actions.Invalid, "the arguments are not JSON")
	}
	var members map[string]json.RawMessage
	object := bytes.HasPrefix(bytes.TrimSpace(args), []byte("{")) && json.Unmarshal(args, &members) == nil
	formed := len(d.files) > 0 || len(d.form) > 0
	if !object {
		if formed {
			return actions.Errorf(actions.Invalid, "arguments in a form need a JSON object that can join them")
		}
		d.contentType, d.body = jsonType, args
		return nil
	}
	d.accepts = members["accept"] != nil
	names := slices.Sorted(maps.Keys(members))
	files := len(d.files)
	for _, name := range names {
		took, err := d.takeFiles(name, members[name])
		if err != nil {
			return err
		}
		if took {
			delete(members, name)
		}
	}
	for _, name := range names {
		if p := find(d.parameters, name); p != nil && p.In == "header" && members[name] != nil {
			for _, text := range texts(members[name]) {
				d.setHeader(name, text)
			}
		}
	}
	switch {
	case formed || len(d.files) > files:
		for _, name := range names {
			if members[name] != nil {
				d.takeMember(name, members[name])
			}
		}
	case len(members) > 0:
		d.contentType, d.body = jsonType, args
	}
	return nil
}

// takeMember puts a member where its parameter is looked for, or into the form.
func (d *draft) takeMember(name string, raw json.RawMessage) {
	p := find(d.parameters, name)
	if p != nil && p.In == "header" {
		return // it is there
	}
	for _, text := range texts(raw) {
		size := len(url.QueryEscape(name)) + len(url.QueryEscape(text)) + 2
		if p != nil && p.In == "query" && d.queried+size <= maxQuery {
			d.queried += size
			d.query.Add(name, text)
			continue
		}
		d.form = append(d.form, field{name, text})
	}
}

// texts returns a value as a form has it: nothing for null, one text for each element of
// a list of plain values, and JSON for what is nested.
func texts(raw json.RawMessage) []string {
	raw = bytes.TrimSpace(raw)
	switch {
	case string(raw) == "null":
		return nil
	case raw[0] == '"':
		var text string
		_ = json.Unmarshal(raw, &text) // it is valid
		return []string{text}
	case raw[0] == '[':
		var list []json.RawMessage
		_ = json.Unmarshal(raw, &list)
		var all []string
		for _, element := range list {
			if b := bytes.TrimSpace(element); b[0] == '[' || b[0] == '{' {
				return []string{string(raw)}
			}
			all = append(all, texts(element)...)
		}
		return all
	}
	return []string{string(raw)}
}

// takeFiles takes the files of a member, and reports whether there are any: of a
// parameter that is a file all that may be one, of others what only a file looks like.
func (d *draft) takeFiles(name string, raw json.RawMessage) (bool, error) {
	raw = bytes.TrimSpace(raw)
	p := find(d.parameters, name)
	isFile := p != nil && p.Type == string(actions.TypeFile)
	if string(raw) == "null" {
		return false, nil
	}
	if !isFile && !looksLikeFile(raw) {
		return false, nil
	}
	files, err := actions.ParseFiles(name, raw)
	if err != nil {
		return false, err
	}
	d.files = append(d.files, files...)
	return true, nil
}

// looksLikeFile reports whether JSON is what deepfn writes a file as, with a media type.
func looksLikeFile(raw json.RawMessage) bool {
	if raw[0] != '{' {
		return false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members["data"] == nil {
		return false
	}
	for name := range members {
		if name != "data" && name != "filename" && name != "content_type" {
			return false
		}
	}
	return members["filename"] != nil || members["content_type"] != nil
}

// write makes the body of the form, if there is one.
func (d *draft) write() error {
	if len(d.files) == 0 {
		if len(d.form) > 0 {
			values := url.Values{}
			for _, f := range d.form {
				values.Add(f.name, f.value)
			}
			d.contentType, d.body = "application/x-www-form-urlencoded", []byte(values.Encode())
		}
		return nil
	}
	size := 0
	for _, f := range d.files {
		size += len(f.Data) + 512
		if hasControl(f.Name) {
			return actions.Errorf(actions.Invalid, "%q is not the name of an argument", f.Name)
		}
	}
	var b bytes.Buffer
	b.Grow(size)
	w := multipart.NewWriter(&b)
	for _, f := range d.form {
		if hasControl(f.name) {
			return actions.Errorf(actions.Invalid, "%q is not the name of an argument", f.name)
		}
		if err := w.WriteField(f.name, f.value); err != nil {
			return actions.Errorf(actions.Internal, "http: form: %w", err)
		}
	}
	for _, f := range d.files {
		if err := writeFile(w, f); err != nil {
			return actions.Errorf(actions.Internal, "http: form: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return actions.Errorf(actions.Internal, "http: form: %w", err)
	}
	d.contentType, d.body = w.FormDataContentType(), b.Bytes()
	return nil
}

// writeFile writes a file into a form. Without a filename a server takes it for a text.
func writeFile(w *multipart.Writer, f actions.File) error {
	if f.Filename == "" {
		f.Filename = f.Name
	}
	if _, _, err := mime.ParseMediaType(f.ContentType); err != nil || hasControl(f.ContentType) {
		f.ContentType = "application/octet-stream"
	}
	f.Filename = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, f.Filename)
	h := textproto.MIMEHeader{}
	h.Set("Content-Disposition", multipart.FileContentDisposition(f.Name, f.Filename))
	h.Set("Content-Type", f.ContentType)
	part, err := w.CreatePart(h)
	if err == nil {
		_, err = part.Write(f.Data)
	}
	return err
}

// hasControl reports whether a text has what no header may have.
func hasControl(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }
