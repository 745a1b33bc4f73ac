package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// fakeStorage has what is put into it, by URL; of other URLs it fails.
type fakeStorage struct {
	has      map[string]actions.File
	err      map[string]error // of Fetch and Store
	mayStore error

	mu     sync.Mutex // guards what follows
	stored map[string]actions.File
	asked  []string
	atOnce int // fetches now
	most   int // at one time
}

func (f *fakeStorage) Fetch(ctx context.Context, url string, w io.Writer) (actions.File, error) {
	f.mu.Lock()
	f.asked = append(f.asked, url)
	f.atOnce++
	f.most = max(f.most, f.atOnce)
	f.mu.Unlock()
	runtime.Gosched()
	defer func() { f.mu.Lock(); f.atOnce--; f.mu.Unlock() }()
	if err := ctx.Err(); err != nil {
		return actions.File{}, err
	}
	file, ok := f.has[url]
	if err := f.err[url]; err != nil || !ok {
		if err == nil {
			err = actions.Errorf(actions.NotFound, "%s answered 404 Not Found", shownURL(url))
		}
		return actions.File{}, err
	}
	_, err := w.Write(file.Data)
	file.Data = nil
	return file, err
}

func (f *fakeStorage) MayStore(string) error { return f.mayStore }

func (f *fakeStorage) Store(_ context.Context, url string, file actions.File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stored == nil {
		f.stored = map[string]actions.File{}
	}
	file.Data = slices.Clone(file.Data)
	f.stored[url] = file
	return f.err[url]
}

const place = "https://example.com/"

func newFakeStorage() *fakeStorage {
	return &fakeStorage{
		has: map[string]actions.File{
			place + "a.png?key=secret": {Filename: "a.png", ContentType: "image/png", Data: []byte("pixels")},
			place + "b":                {Data: []byte("bytes")},
			place + "empty":            {},
			place + "text":             {Data: []byte("hällo \"x\" <b>")},
			place + "text?key=secret":  {Data: []byte("hello")},
			place + "latin":            {Data: []byte("h\xe4llo")},
			place + "five":             {Data: []byte(" 5\n")},
			place + "list":             {Data: []byte("[1, 2]\n")},
			place + "npy":              {Data: []byte("\x93NUMPY")},
		},
		err: map[string]error{},
	}
}

// A described is what a module says of its arguments.
func describedInfo(t *testing.T, d actions.Description) json.RawMessage {
	t.Helper()
	info, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func moduleInfo(t *testing.T) json.RawMessage {
	t.Helper()
	binary := json.RawMessage(`{"type":"string","format":"binary"}`)
	parameters := []actions.Parameter{
		{Argument: actions.Argument{Name: "image", Type: actions.TypeFile}, Schema: binary},
		{Argument: actions.Argument{Name: "images", Type: actions.TypeArray}, Schema: json.RawMessage(`{"type":"array","items":` + string(binary) + `}`)},
		{Argument: actions.Argument{Name: "either", Type: actions.TypeAny}, Schema: json.RawMessage(`{"anyOf":[{"type":"string"},` + string(binary) + `]}`)},
		{Argument: actions.Argument{Name: "text", Type: actions.TypeString}},
		{Argument: actions.Argument{Name: "n", Type: actions.TypeInteger}},
		{Argument: actions.Argument{Name: "numbers", Type: actions.TypeArray}},
		{Argument: actions.Argument{Name: "object", Type: actions.TypeObject}},
		{Argument: actions.Argument{Name: "any", Type: actions.TypeAny}},
	}
	sig := &actions.Signature{Parameters: parameters}
	return describedInfo(t, actions.Description{Predict: sig, Train: sig})
}

func file(name, filename, contentType, data string) actions.File {
	return actions.File{Name: name, Filename: filename, ContentType: contentType, Data: []byte(data)}
}

// TestReferences shows what a model gets of references, one whose arguments are bound here
// and one that parses them.
func TestReferences(t *testing.T) {
	for name, tt := range map[string]struct {
		value string
		args  string // of both
		files []actions.File
	}{
		"none":                    {`{"text":"url"}`, `{"text":"url"}`, nil},
		"a file":                  {`{"n":3,"image":{"url":"https://example.com/a.png?key=secret"}}`, `{"n":3}`, []actions.File{file("image", "a.png", "image/png", "pixels")}},
		"named":                   {`{"image": { "filename": "../x.bin" , "url":"https://example.com/b","content_type":"a/b"} }`, `{}`, []actions.File{file("image", "x.bin", "a/b", "bytes")}},
		"empty":                   {`{"image":{"url":"https://example.com/empty"}}`, `{}`, []actions.File{file("image", "file", "", "")}},
		"a text":                  {`{"text":{"url":"https://example.com/text"}}`, `{"text":"hällo \"x\" <b>"}`, nil},
		"a number":                {`{"n":{"url":"https://example.com/five"}}`, `{"n":5}`, nil},
		"a list":                  {`{"numbers":{"url":"https://example.com/list"}}`, `{"numbers":[1, 2]}`, nil},
		"an object":               {`{"object":{"url":"https://example.com/five"}}`, `{"object":{"url":"https://example.com/five"}}`, nil},
		"a list of other objects": {`{"numbers":[{"a":"url"},{"b":1}]}`, `{"numbers":[{"a":"url"},{"b":1}]}`, nil},
		"escaped":                 {`{"image":{"url":"https:\/\/example.com\/\u0062"}}`, `{}`, []actions.File{file("image", "", "", "bytes")}},
	} {
		t.Run(name, func(t *testing.T) {
			inv := &fakeInvoker{}
			s, _ := newServer(t, Config{Invoker: inv, Model: "echo", Storage: newFakeStorage()})
			post(t, s, "/run", `{"value":`+tt.value+`}`)
			wantRequest(t, inv, tt.args, tt.files)
			post(t, s, predictPath, tt.value)
			wantRequest(t, inv, tt.args, tt.files)
			if _, err := s.Activate(t.Context(), actions.Activation{Model: "echo", Value: []byte(tt.value)}); err != nil {
				t.Error(err)
			}

			inv = &fakeInvoker{info: moduleInfo(t)}
			s, _ = newServer(t, Config{Invoker: inv, Model: "mod", Catalog: module(), Storage: newFakeStorage()})
			post(t, s, "/run", `{"value":`+tt.value+`}`)
			wantRequest(t, inv, tt.args, tt.files)
			post(t, s, "/v2/models/mod/predict/", tt.value)
			wantRequest(t, inv, tt.args, tt.files)
		})
	}
}

func wantRequest(t *testing.T, inv *fakeInvoker, args string, files []actions.File) {
	t.Helper()
	got := inv.lastRequest()
	if diff := cmp.Diff(compacted(t, args), compacted(t, string(got.Args))); diff != "" {
		t.Errorf("args (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(files, got.Files, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, text := range got.Texts {
		if isParameter(text) {
			t.Errorf("got the text %+v too", text)
		}
	}
}

func compacted(t *testing.T, text string) string {
	t.Helper()
	raw := compact(json.RawMessage(text))
	if raw == nil {
		t.Fatalf("not JSON: %s", text)
	}
	return string(raw)
}

// TestReferenceLists shows files by reference beside others, in their order, and in fields
// of forms.
func TestReferenceLists(t *testing.T) {
	a, b := file("images", "a.png", "image/png", "pixels"), file("images", "", "", "bytes")
	image := func(files ...actions.File) []actions.File {
		files = slices.Clone(files)
		for i := range files {
			files[i].Name = "image"
		}
		return files
	}
	inv := &fakeInvoker{info: moduleInfo(t)}
	s, _ := newServer(t, Config{Invoker: inv, Model: "mod", Catalog: module(), Storage: newFakeStorage()})
	const list = `[{"url":"https://example.com/a.png?key=secret"}, "aGk=" ,{"url":"https://example.com/b"},{"data":"aGk=","filename":"h"}]`
	post(t, s, "/run", `{"value":{"images":`+list+`}}`)
	wantRequest(t, inv, `{}`, []actions.File{a, file("images", "", "", "hi"), b, file("images", "h", "", "hi")})
	post(t, s, "/run", `{"value":{"either":{"url":"https://example.com/b"},"any":{"url":"https://example.com/b"}}}`)
	wantRequest(t, inv, `{"any":{"url":"https://example.com/b"}}`, []actions.File{file("either", "", "", "bytes")})

	form := func(path string) response {
		return s.handle(t.Context(), &request{
			method: http.MethodPost, path: path, contentType: formType, id: "id-1",
			body: []byte(`image=%7B%22url%22%3A%22https%3A%2F%2Fexample.com%2Fb%22%7D`),
		})
	}
	form("/v2/models/mod/predict/")
	if got := inv.lastRequest(); len(got.Texts) > 0 || cmp.Diff(image(b), got.Files) != "" {
		t.Errorf("got %+v", got)
	}
	inv = &fakeInvoker{}
	s, _ = newServer(t, Config{Invoker: inv, Model: "echo", Storage: newFakeStorage()})
	form(predictPath)
	wantRequest(t, inv, `{}`, image(b))
	post(t, s, predictPath, `{"image":`+list+`}`)
	wantRequest(t, inv, `{}`, image(a, file("", "", "", "hi"), b, file("", "h", "", "hi")))
	post(t, s, predictPath, `{"numbers":{"url":"https://example.com/npy"}}`)
	wantRequest(t, inv, `{}`, []actions.File{file("numbers", "", "", "\x93NUMPY")})
}

// TestWrongReferences shows what a caller reads, and that no model is asked.
func TestWrongReferences(t *testing.T) {
	storage := newFakeStorage()
	storage.err[place+"slow"] = &actions.Error{Code: actions.Deadline, Msg: "https://example.com/slow took more than 1m0s"}
	storage.err[place+"down"] = &actions.Error{Code: actions.Unavailable, Msg: "https://example.com/down cannot be reached"}
	storage.err[place+"large"] = &actions.Error{Code: actions.TooLarge, Msg: "https://example.com/large has more than the 10 bytes"}
	for name, tt := range map[string]struct {
		value, want string
		status      int
	}{
		"nothing there":  {`{"image":{"url":"https://example.com/none?key=secret"}}`, "image cannot be fetched: https://example.com/none answered 404 Not Found", 422},
		"in a list":      {`{"image":["aGk=",{"url":"https://example.com/none"}]}`, "image cannot be fetched: https://example.com/none answered 404 Not Found", 422},
		"slow":           {`{"image":{"url":"https://example.com/slow"}}`, "image cannot be fetched: https://example.com/slow took more than 1m0s", 504},
		"down":           {`{"image":{"url":"https://example.com/down"}}`, "image cannot be fetched: https://example.com/down cannot be reached", 502},
		"large":          {`{"image":{"url":"https://example.com/large"}}`, "image cannot be fetched: https://example.com/large has more than the 10 bytes", 413},
		"another member": {`{"image":{"url":"https://example.com/b","data":""}}`, `image is an object with url and the member "data"; by reference it has url, filename and content_type`, 422},
		"no text":        {`{"image":{"url":5}}`, "image is an object whose member url must be a string", 422},
		"not UTF-8":      {`{"text":{"url":"https://example.com/latin"}}`, "text is given by reference, and what is at https://example.com/latin is not UTF-8", 422},
		"not JSON":       {`{"n":{"url":"https://example.com/text?key=secret"}}`, "n is given by reference, and what is at https://example.com/text is not JSON", 422},
	} {
		t.Run(name, func(t *testing.T) {
			for model, catalog := range map[string]Catalog{"echo": fakeCatalog{}, "mod": module()} {
				inv := &fakeInvoker{info: moduleInfo(t)}
				s, st := newServer(t, Config{Invoker: inv, Catalog: catalog, Model: model, Storage: storage})
				wantResponse(t, post(t, s, "/run", `{"value":`+tt.value+`}`), 200, string(jsonResponse(0, errorBody{Error: tt.want}).body))
				resp := post(t, s, "/v2/models/"+model+"/predict/", tt.value)
				problem := tt.want[strings.Index(tt.want, " ")+1:]
				if tt.status != 422 {
					problem = tt.want
				}
				if quote, _ := json.Marshal(problem); resp.status != tt.status || !strings.Contains(string(resp.body), string(quote)) {
					t.Errorf("got %d %s, want %d %s", resp.status, resp.body, tt.status, problem)
				}
				if inv.calls() > 0 {
					t.Error("the model was asked")
				}
				if strings.Contains(st.log.String()+st.out.String(), "secret") {
					t.Errorf("the log tells the query: %s", st.log.String())
				}
			}
		})
	}
}

// TestReferencesCold shows that a model which is not loaded is asked first what it takes.
func TestReferencesCold(t *testing.T) {
	for _, kind := range []string{actions.Python, actions.HTTP} {
		inv := &fakeInvoker{}
		info := moduleInfo(t)
		var verbs []actions.Verb
		inv.answer = func(_ context.Context, req actions.Request) (actions.Response, error) {
			verbs, inv.info = append(verbs, req.Verb), info
			return actions.Response{ContentType: jsonType, Data: []byte("{}"), Logs: []actions.LogLine{{Stream: actions.Stdout, Text: "line " + string(req.Verb)}}}, nil
		}
		catalog := oneModel{actions.Model{Name: "mod", Runtime: kind}}
		s, st := newServer(t, Config{Invoker: inv, Model: "mod", Catalog: catalog, Storage: newFakeStorage()})
		post(t, s, "/run", `{"value":{"image":{"url":"https://example.com/b"}}}`)
		wantRequest(t, inv, `{}`, []actions.File{file("image", "", "", "bytes")})
		if diff := cmp.Diff([]actions.Verb{actions.Metadata, actions.Predict}, verbs); diff != "" {
			t.Errorf("verbs (-want +got):\n%s", diff)
		}
		if out := st.out.String(); out != "line metadata\nline predict\n"+sentinel+"\n" {
			t.Errorf("got %q on stdout", out)
		}
	}
	s, _ := newServer(t, Config{Invoker: &fakeInvoker{answer: failing(actions.Errorf(actions.Unavailable, "no"))}, Model: "mod", Catalog: module(), Storage: newFakeStorage()})
	wantResponse(t, post(t, s, "/run", `{"value":{"image":{"url":"https://example.com/b"}}}`), 200, `{"error":"no"}`+"\n")
}

// TestReferencesOfFunctions shows that a function that takes all arguments at once gets them
// as they came, and an executable too.
func TestReferencesOfFunctions(t *testing.T) {
	const value = `{"image":{"url":"https://example.com/b"},"result_to":["mine"]}`
	for _, m := range []actions.Model{{Name: "mod", Runtime: actions.Python}, {Name: "mod", Runtime: actions.Executable}} {
		inv := &fakeInvoker{info: describedInfo(t, actions.Description{Function: true, Predict: &actions.Signature{Open: true}})}
		storage := newFakeStorage()
		s, _ := newServer(t, Config{Invoker: inv, Model: "mod", Catalog: oneModel{m}, Storage: storage})
		wantResponse(t, post(t, s, "/run", `{"value":`+value+`}`), 200, value)
		if len(storage.asked) > 0 || len(storage.stored) > 0 {
			t.Errorf("%s: fetched %q and stored %v", m.Runtime, storage.asked, storage.stored)
		}
	}
}

// FuzzReferences looks for arguments that are not valid JSON any more, or that make a panic.
func FuzzReferences(f *testing.F) {
	for _, seed := range []string{
		`{"image":{"url":"https://example.com/b"}}`, `{"image":[{"url":"https://example.com/b"},"aGk="],"n":{"url":"https://example.com/five"}}`,
		`{"text":{"url":"https://example.com/text"},"text":1,"result_to":"https://example.com/x"}`, `{"numbers":[[{"url":1}]]}`, `{"image":{"url":null}}`,
		`{"\u0069mage":{"\u0075rl":"https://example.com/b","url":"https://example.com/b"}}`, `{"result_to":{"url":""}}`, `{"images":["url",{"url":"`,
	} {
		f.Add(seed)
	}
	sig := &actions.Signature{}
	for _, a := range echoModel("").Arguments {
		sig.Parameters = append(sig.Parameters, actions.Parameter{Argument: a})
	}
	info, err := json.Marshal(actions.Description{Predict: sig})
	if err != nil {
		f.Fatal(err)
	}
	inv := &fakeInvoker{info: info, answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
		if req.Args != nil && !json.Valid(req.Args) {
			return actions.Response{}, fmt.Errorf("the arguments are not JSON: %s", req.Args)
		}
		return actions.Response{ContentType: jsonType, Data: []byte("{}")}, nil
	}}
	dir := f.TempDir()
	onnx, _ := newServer(f, Config{Invoker: inv, Model: "echo", Storage: newFakeStorage(), TempDir: dir})
	mod, _ := newServer(f, Config{Invoker: inv, Model: "mod", Catalog: module(), Storage: newFakeStorage(), TempDir: dir})
	f.Fuzz(func(t *testing.T, value string) {
		for _, s := range []*Server{onnx, mod} {
			_, err := s.Activate(t.Context(), actions.Activation{Model: s.cfg.Model, Value: []byte(value)})
			if actions.CodeOf(err) == actions.Internal {
				t.Errorf("%s: %v: %v", value, err, errors.Unwrap(err))
			}
			if n := s.bodies.used.Load(); n != 0 {
				t.Fatalf("%s: %d bytes are still taken", value, n)
			}
		}
	})
}
