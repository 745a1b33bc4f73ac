package proxy

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/deepfn/deepfn/actions"
)

// maxSchema is how deep a schema is described.
const maxSchema = 16

// addParameters adds what a verb takes to an operation. Files are fields of a form; a
// header is a header; everything else is in the query, as upstream says it, or in the
// form beside files that are asked for there.
func addParameters(op fields, parameters []actions.Parameter) {
	list := []fields{}
	body := fields{}
	var required []string
	seen := map[string]bool{}
	form := false
	for _, p := range parameters {
		in := location(p)
		name := p.Name
		if p.Location == "cookies" {
			name = "Cookie"
		}
		if name == "" || seen[in+" "+name] {
			continue
		}
		seen[in+" "+name] = true
		if in == "body" {
			body[name] = describe(swaggerSchema(p.Schema), p)
			if p.Required {
				required = append(required, name)
			}
			continue
		}
		form = form || in == "formData"
		list = append(list, parameter(p, name, in))
	}
	switch {
	case form: // a form has no other body
		op["consumes"] = []string{"multipart/form-data"}
	case len(body) > 0:
		schema := fields{"type": "object", "properties": body}
		if required != nil {
			schema["required"] = required
		}
		list = append(list, fields{"in": "body", "name": "body", "required": required != nil, "schema": schema})
		op["consumes"] = []string{jsonType}
	}
	op["parameters"] = list
}

// location is where OpenAPI says that a parameter is.
func location(p actions.Parameter) string {
	switch {
	case p.Location == "headers", p.Location == "cookies":
		return "header"
	case p.Type == actions.TypeFile, p.Location == "form":
		return "formData"
	case p.Location == "json":
		return "body"
	}
	return "query"
}

// parameter describes one parameter outside of a body.
func parameter(p actions.Parameter, name, in string) fields {
	f := fields{"in": in, "name": name, "required": p.Required}
	if p.Description != "" {
		f["description"] = p.Description
	}
	if p.Location == "query" {
		f["x-only"] = true // it is not looked for in a form
	}
	schema := swaggerSchema(p.Schema)
	switch p.Type {
	case actions.TypeFile:
		if f["type"] = "file"; in != "formData" {
			f["type"] = "string"
		}
		if len(p.ContentTypes) > 0 {
			f["x-content-types"] = p.ContentTypes
		}
		if schema["type"] == "array" {
			f["x-multiple"] = true
		}
		return f
	case actions.TypeArray:
		items := fields{"type": itemType(schema)}
		if inner, ok := schema["items"].(fields); ok {
			restrict(items, inner)
		}
		f["type"], f["items"] = "array", items
		restrict(f, schema)
		addDefault(f, p)
		if in == "query" || in == "formData" {
			f["collectionFormat"] = "multi"
		}
		return f
	case actions.TypeObject, actions.TypeAny:
		f["type"], f["x-json"] = "string", true
		addDefault(f, p)
		return f
	case actions.TypeInteger, actions.TypeNumber, actions.TypeBoolean, actions.TypeString:
		f["type"] = string(p.Type)
	default:
		f["type"] = "string"
	}
	if choices := ofType(p.Choices, f["type"]); len(choices) > 0 {
		if p.Name == "accept" && in == "header" && !slices.ContainsFunc(choices, isAnything) {
			choices = append(choices, json.RawMessage(`"*/*"`))
		}
		f["enum"] = choices
	}
	restrict(f, schema)
	addDefault(f, p)
	return f
}

func isAnything(raw json.RawMessage) bool { return string(raw) == `"*/*"` }

// ofType returns the different values that have a type.
func ofType(values []json.RawMessage, is any) []json.RawMessage {
	var found []json.RawMessage
	seen := map[any]bool{} // 1 and 1.0 are one value
	for _, raw := range values {
		raw = compact(raw)
		var v any
		if json.Unmarshal(raw, &v) != nil {
			continue
		}
		ok := false
		switch v := v.(type) {
		case string:
			ok = is == "string"
		case bool:
			ok = is == "boolean"
		case float64:
			ok = is == "number" || is == "integer" && v == float64(int64(v)) && !bytes.ContainsAny(raw, ".eE")
		}
		if ok && !seen[v] {
			seen[v], found = true, append(found, raw)
		}
	}
	return found
}

func compact(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

// itemType is the type of the items of an array in a query.
func itemType(schema fields) string {
	items, _ := schema["items"].(fields)
	switch items["type"] {
	case "integer", "number", "boolean":
		kind, _ := items["type"].(string)
		return kind
	}
	return "string"
}

// describe adds the description of a parameter to its schema.
func describe(schema fields, p actions.Parameter) fields {
	if p.Description != "" {
		schema["description"] = p.Description
	}
	return schema
}

// swaggerSchema is a JSON Schema as far as OpenAPI 2.0 can say it.
func swaggerSchema(raw json.RawMessage) fields {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if len(raw) == 0 || dec.Decode(&v) != nil {
		return fields{}
	}
	return reduced(v, 0)
}

// reduced leaves out of a schema what OpenAPI 2.0 does not know, which makes it take more.
func reduced(v any, depth int) fields {
	schema, _ := v.(map[string]any)
	out := fields{}
	if schema == nil || depth == maxSchema {
		return out
	}
	addType(out, schema["type"])
	for _, name := range []string{"title", "description", "format"} {
		if text, ok := schema[name].(string); ok {
			out[name] = text
		}
	}
	if pattern, ok := schema["pattern"].(string); ok {
		name := "pattern"
		if !portable(pattern) {
			name = "x-pattern" // for people
		}
		out[name] = pattern
	}
	addBounds(out, schema)
	addChoices(out, schema)
	if properties, ok := schema["properties"].(map[string]any); ok {
		all := fields{}
		for name, p := range properties {
			all[name] = reduced(p, depth+1)
		}
		out["properties"] = all
		required := slices.DeleteFunc(texts(schema["required"]), func(name string) bool { return all[name] == nil })
		if len(required) > 0 {
			out["required"] = required
		}
	}
	if more, ok := schema["additionalProperties"].(map[string]any); ok {
		out["additionalProperties"] = reduced(more, depth+1)
	}
	if out["type"] == "array" {
		out["items"] = reduced(schema["items"], depth+1)
	}
	return out
}

// addType adds the type. A choice of types is one with null, or none.
func addType(out fields, is any) {
	known := []string{"string", "number", "integer", "boolean", "array", "object"}
	switch is := is.(type) {
	case string:
		if slices.Contains(known, is) {
			out["type"] = is
		}
	case []any:
		kinds := slices.DeleteFunc(texts(is), func(kind string) bool { return kind == "null" })
		if len(kinds) == 1 && slices.Contains(known, kinds[0]) {
			out["type"] = kinds[0]
			out["x-nullable"] = len(is) > 1
		}
	}
}

// addBounds adds the bounds of numbers and lengths.
func addBounds(out fields, schema map[string]any) {
	for _, name := range []string{"minimum", "maximum"} {
		if n, ok := schema[name].(json.Number); ok {
			out[name] = n
		}
	}
	for exclusive, bound := range map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"} {
		if n, ok := schema[exclusive].(json.Number); ok {
			out[bound], out[exclusive] = n, true
		}
	}
	for _, name := range []string{"minLength", "maxLength", "minItems", "maxItems"} {
		if n, ok := schema[name].(json.Number); ok {
			if length, err := n.Int64(); err == nil && length >= 0 {
				out[name] = length
			}
		}
	}
}

// addChoices adds the only values that there are, if all are of the type.
func addChoices(out fields, schema map[string]any) {
	list, _ := schema["enum"].([]any)
	var values []json.RawMessage
	for _, v := range list {
		raw, err := json.Marshal(v)
		switch {
		case v == nil: // x-nullable says so
		case err != nil || len(ofType([]json.RawMessage{raw}, out["type"])) == 0:
			return
		default:
			values = append(values, raw)
		}
	}
	if choices := ofType(values, out["type"]); len(choices) > 0 {
		out["enum"] = choices
	}
}

// texts are the different texts of a list.
func texts(v any) []string {
	list, _ := v.([]any)
	var found []string
	for _, item := range list {
		if text, ok := item.(string); ok && !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	return found
}
