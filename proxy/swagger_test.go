package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// python runs a program in the interpreter that has the public validators.
func python(tb testing.TB, program string, stdin []byte) string {
	tb.Helper()
	interpreter := os.Getenv("DEEPFN_TEST_PYTHON_TOOLS")
	if interpreter == "" {
		tb.Fatal("DEEPFN_TEST_PYTHON_TOOLS is not set: run make test")
	}
	cmd := exec.CommandContext(tb.Context(), interpreter, "-c", program)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

const validateOpenAPI = `
import json, sys
from openapi_spec_validator import OpenAPIV2SpecValidator
problems = [repr(e)[:2000] for e in OpenAPIV2SpecValidator(json.load(sys.stdin)).iter_errors()]
print("\n".join(problems), end="")
`

func wantOpenAPI(t *testing.T, doc []byte) {
	t.Helper()
	if problems := python(t, validateOpenAPI, doc); problems != "" {
		t.Errorf("the document is not OpenAPI: %s\n%s", problems, doc)
	}
}

// everyParameter has a parameter of each kind, some of them hostile.
const everyParameter = `[
	{"name":"file","type":"file","required":true,"location":"form","content_types":["image/png"],"schema":{"type":"string","format":"binary"}},
	{"name":"files","type":"file","schema":{"type":"array","items":{"type":"string","format":"binary"}}},
	{"name":"text","type":"string","default":"a","choices":["a","b","a",3],"schema":{"type":"string","maxLength":3}},
	{"name":"secret","type":"string","default":"x","schema":{"type":"string","format":"password","writeOnly":true}},
	{"name":"url","type":"string","default":"not a date","schema":{"type":"string","format":"date-time"}},
	{"name":"n","type":"integer","default":7,"schema":{"type":["integer","null"],"minimum":10,"exclusiveMaximum":20}},
	{"name":"m","type":"integer","default":"seven","schema":{"type":"integer","minimum":10,"exclusiveMaximum":20}},
	{"name":"x","type":"number","default":1.5,"choices":[1.5,2],"schema":{"type":"number"}},
	{"name":"bad default","type":"integer","default":1.5,"choices":[1,2],"schema":{"type":"integer"}},
	{"name":"b","type":"boolean","default":true,"schema":{"type":"boolean"}},
	{"name":"list","type":"array","default":[1],"schema":{"type":"array","items":{"type":"integer"}}},
	{"name":"lists","type":"array","schema":{"type":"array","items":{"type":"array"}}},
	{"name":"o","type":"object","default":{},"schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["z"]}},
	{"name":"any","type":"any","default":null,"schema":{}},
	{"name":"odd","type":"no such type","schema":17},
	{"name":"","type":"string","schema":{"type":"string"}},
	{"name":"text","type":"integer","schema":{"type":"integer"}},
	{"name":"X-Token","type":"string","location":"headers","schema":{"type":"string"}},
	{"name":"accept","type":"string","location":"headers","default":"application/json","choices":["application/json","image/png"],"schema":{"type":"string"}},
	{"name":"one","type":"string","location":"cookies","schema":{"type":"string"}},
	{"name":"two","type":"string","location":"cookies","schema":{"type":"string"}},
	{"name":"deep","type":"object","location":"json","required":true,"schema":{"$ref":"#/$defs/x","anyOf":[{}],"properties":{"a":{"const":1,"type":["string","integer"]}},"required":["a","nope","a"],"minItems":-1}},
	{"name":"p1","type":"string","default":"a","schema":{"type":"string","pattern":"("}},
	{"name":"p2","type":"string","default":"é","schema":{"type":"string","pattern":"^\\p{L}$"}},
	{"name":"p3","type":"string","default":"b","schema":{"type":["string","null"],"pattern":"^a","minLength":1}},
	{"name":"p4","type":"string","default":"aé","schema":{"type":"string","pattern":"^a.$","minLength":2,"maxLength":2}},
	{"name":"d1","type":"string","default":"2026-13-01","schema":{"type":"string","format":"date"}},
	{"name":"d2","type":"string","default":"%","schema":{"type":"string","format":"byte"}},
	{"name":"d3","type":"string","default":"2026-01-01T00:00:00Z","schema":{"type":"string","format":"date-time"}},
	{"name":"d4","type":"string","default":"a@b","schema":{"type":"string","format":"email"}},
	{"name":"d5","type":"string","default":"1.2.3","schema":{"type":"string","format":"ipv4"}},
	{"name":"i1","type":"integer","default":9007199254740993,"schema":{"type":"integer","minimum":9007199254740994}},
	{"name":"i2","type":"integer","default":5000000000,"schema":{"type":"integer","format":"int32"}},
	{"name":"i3","type":"integer","default":3,"schema":{"type":"integer","exclusiveMinimum":3}},
	{"name":"i4","type":"integer","default":3,"schema":{"type":"string","minLength":3}},
	{"name":"i5","type":"number","default":1e400,"schema":{"type":"number","maximum":1e400}},
	{"name":"e1","type":"number","choices":[1,1.0,1e0],"schema":{"type":"number","minimum":7}},
	{"name":"e2","type":"integer","default":4,"schema":{"type":"integer","enum":[1,null,2,1]}},
	{"name":"e3","type":"string","default":"a","schema":{"type":"string","enum":[1,"a",{}]}},
	{"name":"l1","type":"array","default":[1,"a"],"schema":{"type":"array","items":{"type":"integer"}}},
	{"name":"l2","type":"array","default":[1,5],"schema":{"type":"array","items":{"type":"integer","maximum":4},"maxItems":2}},
	{"name":"l3","type":"array","default":["a","b"],"schema":{"type":"array","items":{"type":"string","enum":["a","b"]},"minItems":1,"maxItems":2}},
	{"name":"l4","type":"array","default":["a"],"schema":{"type":"array","items":{"type":"string","pattern":"("},"minItems":3}},
	{"name":"l5","type":"array","default":[[1]],"schema":{"type":"array","items":{"type":"array"}}},
	{"name":"X-List","type":"array","location":"headers","default":[1],"schema":{"type":"array","items":{"type":"integer","minimum":1}}},
	{"name":"x1","type":"any","default":{"a":[1]},"schema":{}},
	{"name":"body1","type":"integer","location":"json","default":"x","schema":{"type":"integer","enum":["a"],"pattern":"("}},
	{"name":"body2","type":"string","location":"json","schema":{"type":"string","enum":["a","a",null],"pattern":"("}},
	{"name":"\u0000{{é😀}}\"<script>$ref/~1","type":"string","description":"](javascript:x) \u0000 {uuid} #/definitions/Nope \u2028","default":"{}","choices":["{}","$ref"],"schema":{"type":"string","pattern":"("}}]`

// A document of all kinds of models is what OpenAPI's public validator takes.
func TestSwagger(t *testing.T) {
	described := func(parameters, response string) json.RawMessage {
		return json.RawMessage(`{"metadata":{"description":"{x}"},"predict":{"parameters":` + parameters + `},"train":{"parameters":` + parameters + `},"response":` + response + `}`)
	}
	onnx := echoModel("onnx-1.2_x")
	onnx.Arguments = append(onnx.Arguments, actions.Argument{
		Name: "top-k.1", Type: actions.TypeInteger, Description: "<b>", Default: json.RawMessage("5"), Choices: []json.RawMessage{json.RawMessage("5")},
	})
	noForm := strings.NewReplacer(`"type":"file"`, `"type":"string"`, `"location":"form",`, ``).Replace(everyParameter)
	for name, tt := range map[string]struct {
		model actions.Model
		info  json.RawMessage
	}{
		"onnx":             {onnx, json.RawMessage(`{"provider":"CPU"}`)},
		"module":           {module().m, described(everyParameter, `{"type":"object","properties":{"a":{"type":"array"}},"required":["a","b"],"$defs":{}}`)},
		"module with JSON": {module().m, described(noForm, `true`)},
		"not loaded":       {module().m, nil},
		"cannot predict":   {module().m, json.RawMessage(`{"predict":null,"train":null}`)},
		"no parameters":    {module().m, json.RawMessage(`{"predict":{"open":true,"parameters":null},"train":{"parameters":null}}`)},
		"hostile name":     {actions.Model{Name: `a{b}/c"`, Runtime: actions.Executable}, nil},
		"deep answer":      {module().m, described(`[]`, strings.Repeat(`{"type":"array","items":`, 500)+"{}"+strings.Repeat("}", 500))},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newServer(t, Config{Catalog: oneModel{tt.model}, Invoker: &fakeInvoker{info: tt.info}, Jobs: &fakeJobs{}, Batches: &fakeBatches{}, BasePath: "/base"})
			got := get(t, s, "/base/swagger.json")
			if got.status != 200 || got.contentType != jsonType {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			wantOpenAPI(t, got.body)
		})
	}
}

// swaggerDoc is as much of the document as the tests look at.
type swaggerDoc struct {
	Swagger, Host, BasePath string
	Paths                   map[string]map[string]struct {
		Parameters []map[string]any
		Produces   []string
		Consumes   []string
	}
}

func readSwagger(t *testing.T, s *Server, path string) swaggerDoc {
	t.Helper()
	var doc swaggerDoc
	if err := json.Unmarshal(get(t, s, path).body, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// The document says of upstream's own test model what upstream's document says.
func TestSwaggerParameters(t *testing.T) {
	const info = `{"predict":{"parameters":[
		{"name":"data","type":"file","description":"Data file to perform inference.","required":true,"location":"form","schema":{"type":"string","format":"binary"}},
		{"name":"parameter","type":"integer","description":"This is a parameter for prediction","required":true,"schema":{"type":"integer"}},
		{"name":"parameter_three","type":"string","choices":["foo","bar"],"schema":{"type":"string"}},
		{"name":"accept","type":"string","location":"headers","default":"application/json","choices":["application/json","text/plain","image/png"],"schema":{"type":"string"}}]},
		"train":{"parameters":[{"name":"sleep","type":"integer","required":true,"schema":{"type":"integer"}},{"name":"layers","type":"array","location":"query","schema":{"type":"array","items":{"type":"integer"}}}]}}`
	s, _ := newServer(t, Config{Catalog: module(), Invoker: &fakeInvoker{info: []byte(info)}, Jobs: &fakeJobs{}})
	doc := readSwagger(t, s, "/swagger.json")
	if doc.Swagger != "2.0" || doc.Host != "" || doc.BasePath != "" {
		t.Errorf("got version %q, host %q, basePath %q", doc.Swagger, doc.Host, doc.BasePath)
	}
	predict := doc.Paths["/v2/models/mod/predict/"]["post"]
	want := []map[string]any{
		{"in": "formData", "name": "data", "required": true, "description": "Data file to perform inference.", "type": "file"},
		{"in": "query", "name": "parameter", "required": true, "type": "integer", "description": "This is a parameter for prediction"},
		{"in": "query", "name": "parameter_three", "required": false, "type": "string", "enum": []any{"foo", "bar"}},
		{
			"in": "header", "name": "accept", "required": false, "type": "string", "default": "application/json",
			"enum": []any{"application/json", "text/plain", "image/png", "*/*"},
		},
	}
	if diff := cmp.Diff(want, predict.Parameters); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"application/json", "text/plain", "image/png"}, predict.Produces); diff != "" {
		t.Error(diff)
	}
	want = []map[string]any{
		{"in": "query", "name": "sleep", "required": true, "type": "integer"},
		{"in": "query", "name": "layers", "required": false, "type": "array", "items": map[string]any{"type": "integer"}, "collectionFormat": "multi", "x-only": true},
	}
	if diff := cmp.Diff(want, doc.Paths["/v2/models/mod/train/"]["post"].Parameters); diff != "" {
		t.Error(diff)
	}
}

// What a schema says of a value is in the document, beside a default that keeps to it.
func TestSwaggerBounds(t *testing.T) {
	type is = map[string]any
	for _, tt := range []struct {
		name, kind, fallback, schema string
		want                         is
	}{
		{"range", "integer", "5", `{"type":["integer","null"],"minimum":1,"maximum":10}`, is{"default": 5., "minimum": 1., "maximum": 10.}},
		{
			"range without its ends", "number", "0.5", `{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1}`,
			is{"default": 0.5, "minimum": 0., "maximum": 1., "exclusiveMinimum": true, "exclusiveMaximum": true},
		},
		{"at an end that is not in it", "number", "1", `{"type":"number","exclusiveMaximum":1}`, is{"x-default": 1., "maximum": 1., "exclusiveMaximum": true}},
		{"out of range", "integer", "50", `{"type":"integer","maximum":10}`, is{"x-default": 50., "maximum": 10.}},
		{"no default", "integer", "", `{"type":"integer","maximum":10}`, is{"maximum": 10.}},
		{"null", "integer", "null", `{"type":["null","integer"],"maximum":10}`, is{"maximum": 10.}},
		{
			"length and pattern", "string", `"ab"`, `{"type":["string","null"],"minLength":2,"maxLength":3,"pattern":"^a"}`,
			is{"default": "ab", "minLength": 2., "maxLength": 3., "pattern": "^a"},
		},
		{"too short", "string", `"é"`, `{"type":"string","minLength":2}`, is{"x-default": "é", "minLength": 2.}},
		{"pattern of one language", "string", `"é"`, `{"type":"string","pattern":"\\p{L}"}`, is{"default": "é", "x-pattern": `\p{L}`}},
		{"format", "string", `"2026-02-28"`, `{"type":"string","format":"date"}`, is{"default": "2026-02-28", "format": "date"}},
		{"wrong format", "string", `"2026-02-29"`, `{"type":"string","format":"date"}`, is{"x-default": "2026-02-29", "format": "date"}},
		{"choices", "string", `"a"`, `{"type":["string","null"],"enum":["a","b",null]}`, is{"default": "a", "enum": []any{"a", "b"}}},
		{"not a choice", "string", `"c"`, `{"type":"string","enum":["a","b"]}`, is{"x-default": "c", "enum": []any{"a", "b"}}},
		{
			"list", "array", "[1, 2]", `{"type":["array","null"],"items":{"type":"integer","minimum":1},"minItems":1,"maxItems":2}`,
			is{"default": []any{1., 2.}, "items": is{"type": "integer", "minimum": 1.}, "minItems": 1., "maxItems": 2.},
		},
		{"empty list", "array", "[]", `{"type":"array","items":{"type":"integer"}}`, is{"default": []any{}, "items": is{"type": "integer"}}},
		{"list of others", "array", `["a"]`, `{"type":"array","items":{"type":"integer"}}`, is{"x-default": []any{"a"}, "items": is{"type": "integer"}}},
		{"object", "object", `{"a": 1}`, `{"type":"object"}`, is{"x-default": is{"a": 1.}, "x-json": true, "type": "string"}},
		{"anything", "any", `3`, `{"minimum":5}`, is{"x-default": 3., "x-json": true, "type": "string"}},
		{"schema of another type", "integer", "1", `{"type":"string","minLength":5}`, is{"default": 1.}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for location, in := range map[string]string{"query": "query", "form": "formData"} {
				parameter := fmt.Sprintf(`{"name":"p","type":%q,"location":%q,"schema":%s`, tt.kind, location, tt.schema)
				if tt.fallback != "" {
					parameter += `,"default":` + tt.fallback
				}
				info := `{"predict":{"parameters":[` + parameter + `}]}}`
				s, _ := newServer(t, Config{Catalog: module(), Invoker: &fakeInvoker{info: []byte(info)}})
				want := is{"in": in, "name": "p", "required": false, "type": tt.kind}
				if in == "query" {
					want["x-only"] = true
				}
				if tt.kind == "array" {
					want["collectionFormat"] = "multi"
				}
				maps.Copy(want, tt.want)
				got := readSwagger(t, s, "/swagger.json").Paths["/v2/models/mod/predict/"]["post"].Parameters
				if diff := cmp.Diff([]is{want}, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// Every route stands in the document, with every method.
func TestSwaggerHasAllRoutes(t *testing.T) {
	s, _ := newServer(t, Config{Catalog: module(), Jobs: &fakeJobs{}, Batches: &fakeBatches{}, BasePath: "/a"})
	doc := readSwagger(t, s, "/a/swagger.json")
	pages := map[string]bool{"/a": true, "/a/api": true, "/a/api/": true, "/a/ui": true, "/a/swagger.json": true, "/a/api/page.js": true, "/a/api/page.css": true}
	for _, rt := range s.table {
		path := strings.Replace(rt.path, "{model}", "mod", 1)
		if pages[path] || strings.HasSuffix(path, "{uuid}/") || strings.HasSuffix(path, "logs/") {
			continue // a page, or the same again with a slash
		}
		for method, h := range map[string]handler{"get": rt.get, "post": rt.post, "delete": rt.del} {
			if _, ok := doc.Paths[path][method]; ok != (h != nil) {
				t.Errorf("%s %s: got %v in the document, want %v", method, path, ok, h != nil)
			}
		}
	}
}

func TestSwaggerTurnedOff(t *testing.T) {
	s, _ := newServer(t, Config{Catalog: module(), Batches: &fakeBatches{}, NoPredict: true, NoTrain: true})
	for path := range readSwagger(t, s, "/swagger.json").Paths {
		if strings.Contains(path, "predict") || strings.Contains(path, "batch") || strings.Contains(path, "train") {
			t.Errorf("got %s", path)
		}
	}
	s, st := newServer(t, Config{Catalog: fakeCatalog{err: errors.New("disk secret")}})
	wantResponse(t, get(t, s, "/swagger.json"), 500, `{"error":"internal error…`)
	if !strings.Contains(st.log.String(), "disk secret") {
		t.Error("the log does not have the cause")
	}
	s, _ = newServer(t, Config{Invoker: &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
		t.Error("the document asked a model")
		return actions.Response{}, nil
	}}})
	wantOpenAPI(t, get(t, s, "/swagger.json").body)
}

// Whatever a module's program reports, there is a document.
func FuzzSwagger(f *testing.F) {
	f.Add(`{"predict":{"parameters":` + everyParameter + `}}`)
	f.Add(`{"response":{"type":[null,"x"],"properties":{"a":[]}},"predict":{"parameters":[{"schema":null}]}}`)
	f.Fuzz(func(t *testing.T, info string) {
		s, _ := newServer(t, Config{Catalog: module(), Invoker: &fakeInvoker{info: []byte(info)}, Jobs: &fakeJobs{}})
		if got := get(t, s, "/swagger.json"); got.status != 200 || !json.Valid(got.body) {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}
