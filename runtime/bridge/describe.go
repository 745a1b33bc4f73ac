package bridge

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// routes are what the server says of the arguments of its verbs. A nil list means that it
// says nothing.
type routes struct {
	predict, train []parameter
}

// A parameter is one of Swagger 2.0, as far as it is needed.
type parameter struct {
	Name        string            `json:"name"`
	In          string            `json:"in"`
	Type        string            `json:"type"`
	Format      string            `json:"format"`
	Required    bool              `json:"required"`
	Description string            `json:"description"`
	Default     json.RawMessage   `json:"default"`
	Enum        []json.RawMessage `json:"enum"`

	schema map[string]any // the words of JSON Schema among its members
}

// UnmarshalJSON reads a parameter with its schema.
func (p *parameter) UnmarshalJSON(b []byte) error {
	type plain parameter
	if err := json.Unmarshal(b, (*plain)(p)); err != nil {
		return err
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	p.schema = schemaOf(members)
	return nil
}

// schemaOf returns the words that mean in JSON Schema what they mean in Swagger.
func schemaOf(members map[string]any) map[string]any {
	schema := map[string]any{}
	for name, value := range members {
		switch name {
		case "type", "format", "enum", "default", "description", "minimum", "maximum", "multipleOf",
			"minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems":
			schema[name] = value
		case "items":
			if inner, ok := value.(map[string]any); ok {
				schema[name] = schemaOf(inner)
			}
		}
	}
	if schema["type"] == "file" {
		schema["type"], schema["format"] = "string", "binary"
	}
	return schema
}

// describe reads the server's swagger.json, if it has one, and remembers where the
// arguments are looked for.
func (p *Program) describe(ctx context.Context, s *server) actions.Description {
	d := actions.Description{Metadata: s.metadata}
	p.routes = &routes{}
	var document struct {
		Paths map[string]struct {
			Post *struct {
				Parameters []parameter `json:"parameters"`
			} `json:"post"`
		} `json:"paths"`
	}
	b, err := s.look(ctx, "/swagger.json")
	if err != nil || json.Unmarshal(b, &document) != nil {
		document.Paths = nil // it says nothing
	}
	// What stands before /v2/ may be there or not.
	for _, route := range slices.Sorted(maps.Keys(document.Paths)) {
		post := document.Paths[route].Post
		if post == nil {
			continue
		}
		switch name := strings.TrimSuffix(route, "/"); {
		case strings.HasSuffix(name, "/v2/models/"+s.model+"/predict"):
			d.Predict, p.routes.predict = signature(post.Parameters), post.Parameters
		case strings.HasSuffix(name, "/v2/models/"+s.model+"/train"):
			d.Train, p.routes.train = signature(post.Parameters), post.Parameters
		}
	}
	if d.Predict == nil && d.Train == nil {
		open := func() *actions.Signature { return &actions.Signature{Parameters: []actions.Parameter{}, Open: true} }
		d.Predict, d.Train = open(), open()
	}
	return d
}

// signature describes parameters in our words.
func signature(parameters []parameter) *actions.Signature {
	s := &actions.Signature{Parameters: []actions.Parameter{}}
	for _, p := range parameters {
		if p.In == "path" || p.Name == "" {
			continue
		}
		schema, err := json.Marshal(p.schema)
		if err != nil {
			continue // it came from JSON
		}
		s.Parameters = append(s.Parameters, actions.Parameter{
			Argument: actions.Argument{
				Name: p.Name, Type: p.argumentType(), Description: p.Description,
				Required: p.Required, Default: p.Default, Choices: p.Enum,
			},
			Location: p.location(), Schema: schema,
		})
	}
	return s
}

// argumentType returns the type in our words.
func (p *parameter) argumentType() actions.ArgumentType {
	switch t := actions.ArgumentType(p.Type); t {
	case actions.TypeFile, actions.TypeString, actions.TypeInteger, actions.TypeNumber,
		actions.TypeBoolean, actions.TypeArray, actions.TypeObject:
		return t
	default:
		return actions.TypeAny
	}
}

// location returns where the argument is looked for. DEEPaaS says "query" of those that
// may be anywhere.
func (p *parameter) location() string {
	switch p.In {
	case "formData":
		return "form"
	case "header":
		return "headers"
	case "cookie":
		return "cookies"
	case "body":
		return "json"
	default:
		return ""
	}
}

// find returns the parameter of a name, or nil.
func find(parameters []parameter, name string) *parameter {
	i := slices.IndexFunc(parameters, func(p parameter) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &parameters[i]
}
