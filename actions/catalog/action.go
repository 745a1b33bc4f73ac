package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions"
)

// Limits of an action.yaml.
const (
	maxAction  = 1 << 20 // bytes
	maxJSON    = 4 << 20 // bytes of JSON that its values may become
	maxDepth   = 100     // values in values
	maxAliases = 1000    // uses of *name
)

// parseAction makes a model of an action.yaml, which errors call file. It checks the
// form; Validate checks what the model says.
func parseAction(file string, data []byte) (actions.Model, error) {
	if len(data) > maxAction {
		return actions.Model{}, actions.Errorf(actions.Invalid, "%s: more than %d bytes", file, maxAction)
	}
	r := &reader{file: file}
	root, err := r.document(data)
	if err != nil {
		return actions.Model{}, err
	}
	var m actions.Model
	members, err := r.members(root)
	if err != nil {
		return m, err
	}
	runtime := ""
	for _, e := range members {
		if e.key == "runtime" {
			runtime = e.value.Value
		}
	}
	known := fields(reflect.TypeFor[actions.Model]())
	delete(known, "spec") // it has the runtime's name
	if _, taken := known[runtime]; taken {
		return m, r.errorf(root, "runtime %q: a key of every action cannot be a runtime", runtime)
	}
	for _, e := range members {
		switch i, ok := known[e.key]; {
		case ok:
			err = r.into(e.value, reflect.ValueOf(&m).Elem().Field(i), e.key)
		case e.key == runtime && runtime != "":
			m.Spec, err = r.json(nil, e.value, 0)
		default:
			err = r.unknown(e, known, runtime)
		}
		if err != nil {
			return actions.Model{}, err
		}
	}
	return m, nil
}

// A reader turns YAML nodes into a model.
type reader struct {
	file    string
	aliases int // uses of *name so far
	size    int // bytes of JSON so far
}

// errorf is an error with the line of the node.
func (r *reader) errorf(n *yaml.Node, format string, args ...any) error {
	return actions.Errorf(actions.Invalid, "%s:%d: "+format, append([]any{r.file, n.Line}, args...)...)
}

// document parses the one document of data.
func (r *reader) document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, actions.Errorf(actions.Invalid, "%s is empty", r.file)
	}
	if err == nil {
		switch err = dec.Decode(&more); {
		case err == nil:
			return nil, r.errorf(&more, "a second document; an action has one")
		case errors.Is(err, io.EOF):
			return doc.Content[0], nil
		}
	}
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if line, ok := strings.CutPrefix(msg, "line "); ok {
		return nil, actions.Errorf(actions.Invalid, "%s:%s", r.file, line)
	}
	return nil, actions.Errorf(actions.Invalid, "%s: %s", r.file, msg)
}

// fields maps the JSON names of a struct's fields to their indices.
func fields(t reflect.Type) map[string]int {
	names := make(map[string]int)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" {
			names[name] = i
		}
	}
	return names
}

// unknown refuses a key and lists the known ones.
func (r *reader) unknown(e entry, known map[string]int, runtime string) error {
	var keys []string
	for key := range known {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	section := ""
	if runtime != "" {
		section = ", and " + runtime + " for the runtime"
	}
	return r.errorf(e.node, "unknown key %.80q; there are %s%s", e.key, strings.Join(keys, ", "), section)
}

// An entry is a key of a mapping and its value.
type entry struct {
	key         string
	node, value *yaml.Node
}

// members returns the entries of a mapping, each key once.
func (r *reader) members(n *yaml.Node) ([]entry, error) {
	n, err := r.follow(n)
	if err != nil {
		return nil, err
	}
	if n.Kind != yaml.MappingNode {
		return nil, r.errorf(n, "keys and values are expected here, not %s", kind(n))
	}
	entries := make([]entry, 0, len(n.Content)/2)
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if tag := key.ShortTag(); key.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!int" {
			return nil, r.errorf(key, "a key must be a string; quote it")
		}
		if seen[key.Value] {
			return nil, r.errorf(key, "key %.80q is there twice", key.Value)
		}
		seen[key.Value] = true
		if value, err = r.follow(value); err != nil {
			return nil, err
		}
		entries = append(entries, entry{key.Value, key, value})
	}
	return entries, nil
}

// follow returns what an alias stands for. Few are allowed, since aliases of aliases
// grow without end.
func (r *reader) follow(n *yaml.Node) (*yaml.Node, error) {
	for n.Kind == yaml.AliasNode {
		if r.aliases++; r.aliases > maxAliases {
			return nil, r.errorf(n, "more than %d aliases", maxAliases)
		}
		n = n.Alias
	}
	return n, nil
}

// into sets a field of the model, whose path is shown, from a node.
func (r *reader) into(n *yaml.Node, v reflect.Value, shown string) error {
	n, err := r.follow(n)
	if err != nil {
		return err
	}
	if raw, ok := reflect.TypeAssert[*json.RawMessage](v.Addr()); ok {
		*raw, err = r.json(nil, n, 0)
		return err
	}
	if n.ShortTag() == "!!null" {
		return nil
	}
	if b, ok := reflect.TypeAssert[*actions.Bytes](v.Addr()); ok {
		if n.Kind != yaml.ScalarNode || b.Set(n.Value) != nil {
			return r.errorf(n, "%s must be a number of bytes, such as 4 GiB, not %s", shown, kind(n))
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Int:
		var i int
		if n.ShortTag() != "!!int" || n.Decode(&i) != nil {
			return r.errorf(n, "%s must be a whole number, not %s", shown, kind(n))
		}
		v.SetInt(int64(i))
	case reflect.String:
		if n.Kind != yaml.ScalarNode {
			return r.errorf(n, "%s must be a string, not %s", shown, kind(n))
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
			return r.errorf(n, "%s must be true or false", shown)
		}
		v.SetBool(b)
	case reflect.Slice:
		return r.intoSlice(n, v, shown)
	case reflect.Map:
		return r.intoMap(n, v, shown)
	case reflect.Struct:
		return r.intoStruct(n, v)
	default:
		return r.errorf(n, "%s cannot be set", shown)
	}
	return nil
}

func (r *reader) intoSlice(n *yaml.Node, v reflect.Value, shown string) error {
	if n.Kind != yaml.SequenceNode {
		return r.errorf(n, "%s must be a list, not %s", shown, kind(n))
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		if err := r.into(item, v.Index(i), shown+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) intoMap(n *yaml.Node, v reflect.Value, shown string) error {
	members, err := r.members(n)
	if err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range members {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := r.into(e.value, value, shown+"."+e.key); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(e.key), value)
	}
	return nil
}

func (r *reader) intoStruct(n *yaml.Node, v reflect.Value) error {
	members, err := r.members(n)
	if err != nil {
		return err
	}
	known := fields(v.Type())
	for _, e := range members {
		i, ok := known[e.key]
		if !ok {
			return r.unknown(e, known, "")
		}
		if err := r.into(e.value, v.Field(i), e.key); err != nil {
			return err
		}
	}
	return nil
}

// kind is the kind of a node for people.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(n.Value[:min(len(n.Value), 40)])
	}
}

// json appends the JSON form of a node to out.
func (r *reader) json(out []byte, n *yaml.Node, depth int) ([]byte, error) {
	n, err := r.follow(n)
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, r.errorf(n, "more than %d values in each other", maxDepth)
	}
	if err := r.grow(n, 2); err != nil { // the brackets of a list, the comma after a value
		return nil, err
	}
	before := len(out)
	switch n.Kind {
	case yaml.ScalarNode:
		var value []byte
		if value, err = r.scalar(n); err != nil {
			return nil, err
		}
		return append(out, value...), r.grow(n, len(value))
	case yaml.SequenceNode:
		out = append(out, '[')
		for _, item := range n.Content {
			out = comma(out, before)
			if out, err = r.json(out, item, depth+1); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	default:
		members, err := r.members(n)
		if err != nil {
			return nil, err
		}
		out = append(out, '{')
		for _, e := range members {
			if err := r.grow(e.node, len(e.key)); err != nil {
				return nil, err
			}
			out = append(append(comma(out, before), quote(e.key)...), ':')
			if out, err = r.json(out, e.value, depth+1); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	}
}

// grow counts bytes of JSON.
func (r *reader) grow(n *yaml.Node, size int) error {
	if r.size += size; r.size > maxJSON {
		return r.errorf(n, "more than %d bytes with all its aliases", maxJSON)
	}
	return nil
}

// comma appends a comma unless the list that began at start has no item yet.
func comma(out []byte, start int) []byte {
	if len(out) > start+1 {
		return append(out, ',')
	}
	return out
}

// scalar is the JSON form of a scalar. Numbers keep their digits.
func (r *reader) scalar(n *yaml.Node) ([]byte, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return quote(n.Value), nil
	case "!!null":
		return []byte("null"), nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return strconv.AppendBool(nil, b), nil
		}
	case "!!int":
		if isNumber(n.Value) {
			return []byte(n.Value), nil
		}
		var i int64 // 0x10, 0o17, 1_000
		if n.Decode(&i) == nil {
			return strconv.AppendInt(nil, i, 10), nil
		}
	case "!!float":
		if isNumber(n.Value) {
			return []byte(n.Value), nil
		}
		var f float64
		if n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return json.Marshal(f)
		}
	}
	return nil, r.errorf(n, "%.80q is no JSON value; quote it to make it a string", n.Value)
}

// isNumber reports whether s is a number in JSON already.
func isNumber(s string) bool {
	return strings.Trim(s, "+-.0123456789eE") == "" && json.Valid([]byte(s))
}

// quote is the JSON string of s, with < and > as they are.
func quote(s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string has always a JSON form
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
