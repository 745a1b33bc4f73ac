package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const modInfo = `{"metadata":{"id":"0","name":"my","author":"É","links":5,"title":null},"predict":{"parameters":[{"name":"a","type":"integer","schema":{"type":"integer"}}]},"train":null,"imports":["numpy"]}`

// What a module says of itself stands over what the server says, as upstream merges it.
func TestModuleDocument(t *testing.T) {
	mod := module()
	mod.m.Title, mod.m.License, mod.m.Version = "Title", "MIT", "1"
	const loaded = `{"id": "0", "name": "my", "links": 5, "author": "\u00c9", "title": null, "version": "1", "license": "MIT", ` +
		`"arguments": [{"name": "a", "type": "integer", "schema": {"type": "integer"}}], ` +
		`"runtime": {"name": "python", "predict": true, "train": null, "imports": ["numpy"]}}`
	const generic = `{"id": "mod", "name": "mod", "links": [{"rel": "self", "href": "/v2/models/mod"}], "title": "Title", "version": "1", "license": "MIT", "arguments": [], "runtime": null}`
	now := strings.Replace(loaded, `"author": "\u00c9"`, `"x": 1`, 1)
	now = strings.Replace(now, `{"id": "0", "name": "my", "links": 5, "x": 1, "title": null, "version"`,
		`{"id": "mod", "name": "mod", "links": [{"rel": "self", "href": "/v2/models/mod"}], "x": 1, "title": "Title", "version"`, 1)
	for _, tt := range []struct {
		name, info string
		answer     func(context.Context, actions.Request) (actions.Response, error)
		page, list string
	}{
		{"not loaded", "", failing(errors.New("must not be asked")), generic, generic},
		{"loaded", modInfo, answering(jsonType, "null"), loaded, loaded},
		{"says it now", modInfo, answering(jsonType, `{"x":1}`), now, loaded},
		{"fails", modInfo, failing(errors.New("no")), loaded, loaded},
		{"says bytes", modInfo, answering("image/png", `{"x":1}`), loaded, loaded},
		{"not a description", `[1]`, answering(jsonType, `{"x":1}`), generic, generic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &fakeInvoker{info: []byte(tt.info), answer: tt.answer}
			s, _ := newServer(t, Config{Invoker: inv, Catalog: mod})
			wantResponse(t, get(t, s, "/v2/models/"), 200, `{"models": [`+tt.list+`]}`)
			if inv.calls() != 0 {
				t.Error("the list asked the model")
			}
			wantResponse(t, get(t, s, "/v2/models/mod/"), 200, tt.page)
			if asked := inv.calls() == 1 && inv.lastRequest().Verb == actions.Metadata; asked != (tt.page != generic) {
				t.Errorf("got %d calls", inv.calls())
			}
		})
	}
}

// A model that is busy does not hold up the page.
func TestModuleDocumentBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := &fakeInvoker{info: []byte(modInfo), answer: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
			<-ctx.Done()
			return actions.Response{}, ctx.Err()
		}}
		s, _ := newServer(t, Config{Invoker: inv, Catalog: module()})
		begun := time.Now()
		wantResponse(t, get(t, s, "/v2/models/mod/"), 200, `{"id": "0", "name": "my"…`)
		if got := time.Since(begun); got != metadataTime {
			t.Errorf("got the page after %v, want %v", got, metadataTime)
		}
	})
}

// Only programs that can say it are asked.
func TestModuleDocumentOfExecutable(t *testing.T) {
	mod := module()
	mod.m.Runtime = actions.Executable
	inv := &fakeInvoker{info: []byte(`{"predict":{"parameters":[],"open":true},"train":null}`)}
	s, _ := newServer(t, Config{Invoker: inv, Catalog: mod})
	wantResponse(t, get(t, s, "/v2/models/mod/"), 200, `{"id": "mod", "name": "mod", "links": [{"rel": "self", "href": "/v2/models/mod"}], `+
		`"arguments": [], "runtime": {"name": "executable", "predict": true, "train": null}}`)
	if inv.calls() != 0 {
		t.Error("the executable was asked")
	}
}

// A server behind this one has its own name and its own routes, which are not those here.
func TestModuleDocumentOfHTTP(t *testing.T) {
	mod := module()
	mod.m.Runtime = actions.HTTP
	const metadata = `{"id":"tiny","name":"tiny","links":[{"rel":"self","href":"/v2/models/tiny"}],"x":1}`
	inv := &fakeInvoker{
		info: []byte(`{"metadata":` + metadata + `,"predict":{"parameters":[],"open":true},"train":null}`), answer: answering(jsonType, metadata),
	}
	s, _ := newServer(t, Config{Invoker: inv, Catalog: mod, BasePath: "/b"})
	const want = `{"id": "mod", "name": "tiny", "links": [{"rel": "self", "href": "/b/v2/models/mod"}], "x": 1, ` +
		`"arguments": [], "runtime": {"name": "http", "predict": true, "train": null}}`
	wantResponse(t, get(t, s, "/b/v2/models/"), 200, `{"models": [`+want+`]}`)
	wantResponse(t, get(t, s, "/b/v2/models/mod/"), 200, want)
	if inv.calls() != 1 {
		t.Errorf("got %d calls, want 1", inv.calls())
	}
}

func TestDescriptionsAreKept(t *testing.T) {
	var ds descriptions
	raw := json.RawMessage(modInfo)
	first := ds.decode("a", raw)
	if first == nil || ds.decode("a", json.RawMessage(modInfo)) != first || len(first.Predict.Parameters) != 1 {
		t.Errorf("got %v", first)
	}
	clear(raw) // its bytes are not kept
	second := ds.decode("a", json.RawMessage(`{"train":{"parameters":[]}}`))
	if second == nil || second.Train == nil || ds.decode("a", nil) != nil || ds.decode("b", json.RawMessage("x")) != nil {
		t.Errorf("got %v", second)
	}
}

func TestPythonJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":[1,2],"b":{"c":"d:e,f"}}` + "\n":       `{"a": [1, 2], "b": {"c": "d:e,f"}}`,
		`{ "a" : "\\\"," , "b":"x\",:" }`:            `{"a": "\\\",", "b": "x\",:"}`,
		`["é","😀","` + "\x7f" + `","\u2028","a  b"]`: `["\u00e9", "\ud83d\ude00", "\u007f", "\u2028", "a  b"]`,
		`null`: `null`, `[]`: `[]`, `"\\"`: `"\\"`, ``: ``,
	} {
		if got := string(pythonJSON([]byte(in))); got != want {
			t.Errorf("got %s of %s, want %s", got, in, want)
		}
	}
}
