package actionloop

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// A line is a request as the program reads it, in pieces, so that large arguments need
// not be copied.
type line [][]byte

func (l line) size() int {
	n := 0
	for _, piece := range l {
		n += len(piece)
	}
	return n
}

// newLine makes the line of a request. The bytes of req are used where they lie.
func newLine(ctx context.Context, req *actions.Request) (line, error) {
	value, err := oneLine(req.Args)
	if err == nil {
		value, err = merge(value, req)
	}
	if err != nil {
		return nil, err
	}
	return line{[]byte(`{"value":`), value, about(ctx, req)}, nil
}

// oneLine returns JSON without the ends of lines that may stand between its tokens; in a
// string JSON has none. Readers of text take a carriage return for one too.
func oneLine(args json.RawMessage) ([]byte, error) {
	if len(args) == 0 {
		return []byte("{}"), nil
	}
	if !jsonscan.Valid(args) {
		return nil, actions.Errorf(actions.Invalid, "the arguments are not JSON")
	}
	if !bytes.ContainsAny(args, "\r\n") {
		return args, nil
	}
	var b bytes.Buffer
	b.Grow(len(args))
	if err := json.Compact(&b, args); err != nil {
		return nil, actions.Errorf(actions.Invalid, "the arguments are not JSON: %w", err)
	}
	return b.Bytes(), nil
}

// about returns the members beside the value, and the end of the line.
func about(ctx context.Context, req *actions.Request) []byte {
	members := &object{seen: map[string]bool{"value": true}}
	for _, t := range req.Texts {
		if t.Origin == actions.FromContext {
			members.add(strings.ToLower(strings.TrimPrefix(t.Name, "__OW_")), quote(t.Value))
		}
	}
	if req.ID != "" {
		members.add("activation_id", quote(req.ID))
	}
	if req.Trace.Parent != "" {
		members.add("traceparent", quote(req.Trace.Parent))
		if req.Trace.State != "" {
			members.add("tracestate", quote(req.Trace.State))
		}
	}
	if end, ok := ctx.Deadline(); ok {
		members.add("deadline", quote(strconv.FormatInt(end.UnixMilli(), 10)))
	}
	return append(members.bytes, "}\n"...)
}

// merge returns value with the arguments of req that came in other ways. A member of
// value hides them, a form hides the query string.
func merge(value []byte, req *actions.Request) ([]byte, error) {
	members := &object{seen: map[string]bool{}}
	from := gather(req)
	if len(from) == 0 {
		return value, nil
	}
	value = bytes.TrimSpace(value)
	if value[0] != '{' {
		return nil, actions.Errorf(actions.Invalid, "arguments in a form or a query string need a JSON object that they can join")
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(value, &given); err != nil {
		return nil, actions.Errorf(actions.Invalid, "the arguments are not JSON: %w", err)
	}
	for name := range given {
		members.seen[name] = true
	}
	for _, a := range from {
		members.add(a.name, a.value())
	}
	more := members.bytes
	if len(given) == 0 {
		more = bytes.TrimPrefix(more, []byte(","))
	}
	merged := make([]byte, 0, len(value)+len(more))
	merged = append(merged, value[:len(value)-1]...)
	return append(append(merged, more...), '}'), nil
}

// An argument is one that did not come as JSON, with all its values.
type argument struct {
	name   string
	values [][]byte
}

// value returns a repeated argument as a list.
func (a argument) value() []byte {
	if len(a.values) == 1 {
		return a.values[0]
	}
	return append(append([]byte{'['}, bytes.Join(a.values, []byte{','})...), ']')
}

// gather returns the arguments of forms, then those of the query string.
func gather(req *actions.Request) []argument {
	type key struct {
		body bool
		name string
	}
	at := map[key]int{}
	var body, query []argument
	put := func(list *[]argument, k key, value []byte) {
		i, ok := at[k]
		if !ok {
			i = len(*list)
			at[k] = i
			*list = append(*list, argument{name: k.name})
		}
		(*list)[i].values = append((*list)[i].values, value)
	}
	for _, t := range req.Texts {
		switch t.Origin {
		case actions.FromForm:
			put(&body, key{true, t.Name}, quote(t.Value))
		case actions.FromQuery:
			put(&query, key{false, t.Name}, quote(t.Value))
		case actions.FromHeader, actions.FromContext:
		}
	}
	for _, f := range req.Files {
		put(&body, key{true, f.Name}, file(f))
	}
	return append(body, query...)
}

// file writes a file as JSON.
func file(f actions.File) []byte {
	b := make([]byte, 0, base64.StdEncoding.EncodedLen(len(f.Data))+64)
	b = base64.StdEncoding.AppendEncode(append(b, `{"data":"`...), f.Data)
	b = append(b, '"')
	if f.Filename != "" {
		b = append(append(b, `,"filename":`...), quote(f.Filename)...)
	}
	if f.ContentType != "" {
		b = append(append(b, `,"content_type":`...), quote(f.ContentType)...)
	}
	return append(b, '}')
}

// An object is the members of a JSON object, each with a comma before it.
type object struct {
	seen  map[string]bool
	bytes []byte
}

// add adds a member, unless there is one of this name.
func (o *object) add(name string, value []byte) {
	if o.seen[name] {
		return
	}
	o.seen[name] = true
	o.bytes = append(append(append(append(o.bytes, ','), quote(name)...), ':'), value...)
}

// quote writes a JSON string. What is not UTF-8 becomes U+FFFD.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // no string makes one
		return []byte(`""`)
	}
	return b
}
