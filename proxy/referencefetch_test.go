package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestReferencesWithoutStorage(t *testing.T) {
	s, _ := newServer(t, Config{Model: "echo"})
	wantResponse(t, post(t, s, "/run", `{"value":{"image":{"url":"https://example.com/b"}}}`), 200,
		`{"error":"image is given by reference, which this server does not fetch; send the bytes"}`+"\n")
	wantResponse(t, post(t, s, "/run", `{"value":{"result_to":"https://example.com/b"}}`), 200,
		`{"error":"result_to is given, and this server stores no results"}`+"\n")
}

// TestReferencesTogether shows that what a request fetches is bounded together, and how many
// are fetched at one time.
func TestReferencesTogether(t *testing.T) {
	storage := newFakeStorage()
	for i := range 20 {
		storage.has[fmt.Sprint(place, i)] = actions.File{Data: make([]byte, 100)}
	}
	list := func(n int) string {
		var refs []string
		for i := range n {
			refs = append(refs, fmt.Sprintf(`{"url":"https://example.com/%d"}`, i))
		}
		return `{"value":{"image":[` + strings.Join(refs, ",") + `]}}`
	}
	inv := &fakeInvoker{}
	s, _ := newServer(t, Config{Invoker: inv, Model: "echo", Storage: storage, MaxBody: 2000})
	wantResponse(t, post(t, s, "/run", list(20)), 200, `{}`)
	if n := len(inv.lastRequest().Files); n != 20 || storage.most > maxFetches {
		t.Errorf("got %d files and %d at one time, want 20 and at most %d", n, storage.most, maxFetches)
	}
	s, _ = newServer(t, Config{Model: "echo", Storage: storage, MaxBody: 1999})
	wantResponse(t, post(t, s, "/run", list(20)), 200,
		`{"error":"image cannot be fetched: what the request gives by reference is over the limit of 1999 bytes together (--max-body)"}`+"\n")
	wantResponse(t, post(t, s, "/run", list(101)), 200, `{"error":"there are more than 100 arguments by reference"}`+"\n")
	if n := s.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
}

// TestReferencesDisk shows that a disk which does not take what is fetched is no fault of
// the caller, and that no file stays.
func TestReferencesDisk(t *testing.T) {
	dir := t.TempDir()
	s, _ := newServer(t, Config{Model: "echo", Storage: newFakeStorage(), TempDir: dir + "/none"})
	const body, sorry = `{"value":{"image":{"url":"https://example.com/b"}}}`, "image cannot be fetched: the server cannot keep it on its disk at the moment; try again later"
	wantResponse(t, post(t, s, "/run", body), 200, `{"error":"`+sorry+`"}`+"\n")

	full := newFakeStorage()
	full.err[place+"b"] = &diskFault{diskError(syscall.ENOSPC)}
	s, _ = newServer(t, Config{Model: "echo", Storage: full, TempDir: dir})
	wantResponse(t, post(t, s, "/run", body), 200, `{"error":"`+sorry+`"}`+"\n")
	if resp := post(t, s, predictPath, `{"image":{"url":"https://example.com/b"}}`); resp.status != http.StatusInsufficientStorage {
		t.Errorf("got %d %s, want 507", resp.status, resp.body)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v and %v in the folder, want nothing", left, err)
	}
}

// TestReferencesEnd shows that the file is there while the model works, and not after it has
// answered, failed or panicked.
func TestReferencesEnd(t *testing.T) {
	for name, answer := range map[string]func() (actions.Response, error){
		"answers": func() (actions.Response, error) {
			return actions.Response{ContentType: jsonType, Data: []byte("{}")}, nil
		},
		"fails":  func() (actions.Response, error) { return actions.Response{}, errors.New("it failed") },
		"panics": func() (actions.Response, error) { panic("a test") },
	} {
		t.Run(name, func(t *testing.T) {
			storage := newFakeStorage()
			storage.has[place+"b"] = actions.File{Data: make([]byte, 1<<20)}
			before, during := mapped(t), 0
			s, _ := newServer(t, Config{Model: "echo", Storage: storage, Invoker: &fakeInvoker{
				answer: func(_ context.Context, req actions.Request) (actions.Response, error) {
					if len(req.Files) != 1 || len(req.Files[0].Data) != 1<<20 || req.Files[0].Data[1<<20-1] != 0 {
						t.Errorf("got the files %v", req.Files)
					}
					during = mapped(t)
					return answer()
				},
			}})
			post(t, s, "/run", `{"value":{"image":{"url":"https://example.com/b"}}}`)
			if after := mapped(t); during != before+1 || after != before {
				t.Errorf("got %d files mapped before, %d while the model worked, %d after it", before, during, after)
			}
		})
	}
}

// mapped is how many bodies on disk are mapped into memory.
func mapped(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "deepfn-body-")
}

func TestResultTo(t *testing.T) {
	const to = `"result_to":"https://example.com/out?key=secret"`
	png := answering("image/png", "pixels")
	const told = `{"result_to":"https://example.com/out","content_type":"image/png","size":6,` +
		`"sha256":"6ec9c2b0eb14010746c8bce8939303b382344b296206612eb8a907a37b2b2f37"}`
	function := describedInfo(t, actions.Description{Function: true, Predict: &actions.Signature{Open: true}})
	open := describedInfo(t, actions.Description{Predict: &actions.Signature{Open: true}})
	own := describedInfo(t, actions.Description{Predict: &actions.Signature{Parameters: []actions.Parameter{{Argument: actions.Argument{Name: "result_to", Type: actions.TypeString}}}}})
	for name, tt := range map[string]struct {
		info   json.RawMessage // nil is of an ONNX model
		answer func(context.Context, actions.Request) (actions.Response, error)
		want   string
		args   string
		stored string
	}{
		"a file":                   {nil, png, told, `{}`, "pixels"},
		"a module":                 {moduleInfo(t), png, told, `{}`, "pixels"},
		"a module that takes more": {open, png, told, `{}`, "pixels"},
		"a function":               {function, png, told, `{` + to + `}`, "pixels"},
		"a function's own":         {function, answering(jsonType, `{"result_to":"done"}`), `{"result_to":"done"}`, `{` + to + `}`, ""},
		"a module's own":           {own, answering(jsonType, `{"a":1}`), `{"a":1}`, `{` + to + `}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Model: "echo", Storage: newFakeStorage(), Invoker: &fakeInvoker{answer: tt.answer, info: tt.info}}
			if tt.info != nil {
				cfg.Model, cfg.Catalog = "mod", module()
			}
			for _, path := range []string{"/run", "/v2/models/" + cfg.Model + "/predict/", "Activate"} {
				storage := newFakeStorage()
				inv := &fakeInvoker{answer: tt.answer, info: tt.info}
				cfg.Storage, cfg.Invoker = storage, inv
				s, st := newServer(t, cfg)
				switch path {
				case "/run":
					wantResponse(t, post(t, s, path, `{"value":{`+to+`}}`), 200, tt.want)
				case "Activate":
					if resp, err := s.Activate(t.Context(), actions.Activation{Model: cfg.Model, Value: []byte(`{` + to + `}`)}); err != nil || string(resp.Data) != tt.want {
						t.Errorf("got %s, %v, want %s", resp.Data, err, tt.want)
					}
				default:
					wantResponse(t, post(t, s, path, `{`+to+`}`), 200, envelopeHead+tt.want+envelopeTail)
				}
				if got := string(storage.stored[place+"out?key=secret"].Data); got != tt.stored {
					t.Errorf("%s: stored %q, want %q", path, got, tt.stored)
				}
				if got := string(inv.lastRequest().Args); got != tt.args {
					t.Errorf("%s: got the arguments %s, want %s", path, got, tt.args)
				}
				if strings.Contains(st.log.String(), "secret") {
					t.Errorf("the log tells the query: %s", st.log.String())
				}
			}
		})
	}
}

func TestResultToQuery(t *testing.T) {
	for _, cfg := range []Config{
		{Model: "echo"},
		{Model: "mod", Catalog: module()},
	} {
		storage := newFakeStorage()
		inv := &fakeInvoker{answer: answering(jsonType, `{"a":1}`), info: moduleInfo(t)}
		cfg.Invoker, cfg.Storage = inv, storage
		s, _ := newServer(t, cfg)
		resp := s.handle(t.Context(), &request{
			method: http.MethodPost, path: "/v2/models/" + cfg.Model + "/predict/", query: "result_to=https://example.com/out", id: "id-1",
		})
		if f := storage.stored[place+"out"]; resp.status != 200 || string(f.Data) != `{"a":1}` || f.ContentType != jsonType {
			t.Errorf("got %d %s, stored %+v", resp.status, resp.body, f)
		}
		if got := inv.lastRequest(); len(got.Texts) > 0 {
			t.Errorf("the model got %+v", got.Texts)
		}
	}
}

func TestResultToRefused(t *testing.T) {
	refused := newFakeStorage()
	refused.mayStore = actions.Errorf(actions.Forbidden, "http://10.0.0.1/ is not https")
	fails := newFakeStorage()
	fails.err[place+"out?key=secret"] = actions.Errorf(actions.Forbidden, "https://example.com/out answered 403 Forbidden")
	for name, tt := range map[string]struct {
		storage *fakeStorage
		to      string
		want    string
		calls   int
	}{
		"not allowed": {refused, `"http://10.0.0.1/"`, "result_to cannot be stored at: http://10.0.0.1/ is not https", 0},
		"no text":     {newFakeStorage(), `{"url":"https://example.com/"}`, "result_to must be a URL to store the result at, as a string", 0},
		"nothing":     {newFakeStorage(), `""`, "result_to must be a URL to store the result at, as a string", 0},
		"not taken": {
			fails, `"https://example.com/out?key=secret"`,
			"result_to was asked for, and the model has answered, but its answer (7 bytes of application/json) is not stored; " +
				"give a URL that takes it, or call again without result_to to get the answer itself: https://example.com/out answered 403 Forbidden", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv := &fakeInvoker{answer: answering(jsonType, `{"a":1}`)}
			s, st := newServer(t, Config{Model: "echo", Invoker: inv, Storage: tt.storage})
			wantResponse(t, post(t, s, "/run", `{"value":{"result_to":`+tt.to+`}}`), 200, string(jsonResponse(0, errorBody{Error: tt.want}).body))
			if inv.calls() != tt.calls {
				t.Errorf("the model was asked %d times, want %d", inv.calls(), tt.calls)
			}
			wantSentinels(t, st, 1)
			resp := post(t, s, predictPath, `{"result_to":`+tt.to+`}`)
			if resp.status != 422 || !strings.HasPrefix(string(resp.body), `{"result_to":["`) {
				t.Errorf("got %d %s, want 422", resp.status, resp.body)
			}
		})
	}
	s, _ := newServer(t, Config{Model: "echo", Invoker: &fakeInvoker{}, Storage: newFakeStorage()})
	wantResponse(t, post(t, s, "/run", `{"value":{"result_to":null}}`), 200, `{}`)
}

// TestResultOverLimit shows that a result by reference has no limit, and that the error of
// one over the limit is not about it.
func TestResultOverLimit(t *testing.T) {
	inv := &fakeInvoker{answer: answering("text/plain", strings.Repeat("a", 10_000))}
	s, _ := newServer(t, Config{Model: "echo", Invoker: inv, Storage: newFakeStorage(), MaxPayload: 1000})
	wantResponse(t, post(t, s, "/run", `{"value":{"result_to":"https://example.com/out"}}`), 200, `{"result_to":"https://example.com/out",…`)
	wantResponse(t, post(t, s, "/run", `{"value":{}}`), 200, `{"error":…`)
}

// TestReferencesOfTrainings shows that the files are there until the job has them.
func TestReferencesOfTrainings(t *testing.T) {
	inv := &fakeInvoker{info: moduleInfo(t)}
	jobs := &submitting{}
	s, _ := newServer(t, Config{Invoker: inv, Catalog: module(), Storage: newFakeStorage(), Jobs: jobs})
	before := mapped(t)
	resp := post(t, s, "/v2/models/mod/train/", `{"image":{"url":"https://example.com/b"},"result_to":"mine"}`)
	if resp.status != 200 || jobs.data != "bytes" || jobs.args != `{"result_to":"mine"}` {
		t.Errorf("got %d %s, and the job got %q and %s", resp.status, resp.body, jobs.data, jobs.args)
	}
	if after := mapped(t); after != before {
		t.Errorf("got %d files mapped, want %d", after, before)
	}
}

// submitting keeps what a job is given.
type submitting struct {
	fakeJobs
	data, args string
}

func (f *submitting) Submit(ctx context.Context, req actions.Request, shown json.RawMessage) (actions.Job, error) {
	f.data, f.args = string(req.Files[0].Data), string(req.Args)
	return f.fakeJobs.Submit(ctx, req, shown)
}

// TestReferencesGivenUp shows that a request whose time is over says so.
func TestReferencesGivenUp(t *testing.T) {
	s, _ := newServer(t, Config{Storage: newFakeStorage()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Activate(ctx, actions.Activation{Model: "echo", Value: []byte(`{"image":{"url":"https://example.com/b"}}`)})
	if actions.CodeOf(err) != actions.Canceled {
		t.Errorf("got %v, want canceled", err)
	}
}
