package main

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The corpus and the modules that it is for; record.py there says what the files hold.
const (
	corpusDir      = "../../runtime/worker/launcher/tests/corpus"
	corpusModules  = "../../runtime/worker/launcher/tests/modules"
	corpusBoundary = "deepfn-corpus-boundary"
)

// A corpusRequest is one of requests.json.
type corpusRequest struct {
	Name, Module, Method, Path, Query string
	Headers                           [][2]string
	Body                              string
	BodyBase64                        []byte `json:"body_base64"`
	Multipart                         []struct {
		Name, Text  string
		Base64      []byte
		Filename    *string
		ContentType *string `json:"content_type"`
	}
	Ignore []string
	Server string
	UUIDOf string `json:"uuid_of"`
	Until  string
}

// A corpusAnswer is what came back: one of upstream.json.
type corpusAnswer struct {
	Status      int    `json:"status"`
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
	BodyBase64  []byte `json:"body_base64,omitempty"`
	Location    string `json:"location,omitempty"`
	Allow       string `json:"allow,omitempty"`
	Hangs       bool   `json:"hangs,omitempty"`
	Closes      bool   `json:"closes,omitempty"`
}

// A corpusDifference says what deepfn answers in place of upstream's answer, and why.
type corpusDifference struct {
	corpusAnswer
	// Error and Code are the members of an error in deepfn's words. An Error that ends in
	// "…" goes on with what is different from one installation to another.
	Error, Code string
	// More are members that there are beside upstream's.
	More []string
	Why  string
	// None is set for one stack: there is no difference in it.
	None bool
}

// want is the answer that deepfn is to give in place of upstream's.
func (d *corpusDifference) want(t *testing.T, upstream, got corpusAnswer) corpusAnswer {
	t.Helper()
	want := d.corpusAnswer
	if d.More != nil && d.Body == "" {
		want = upstream
	}
	if d.Error == "" {
		return want
	}
	said := d.Error
	if begin, more := strings.CutSuffix(d.Error, "…"); more {
		var doc struct{ Error string }
		if json.Unmarshal([]byte(got.Body), &doc); strings.HasPrefix(doc.Error, begin) {
			said = doc.Error
		}
	}
	want.Allow = upstream.Allow
	want.ContentType, want.Body = "application/json", string(encode(t, map[string]string{"error": said, "code": d.Code}))
	return want
}

// A corpus is all requests with all answers that were recorded.
type corpus struct {
	requests    []corpusRequest
	models      map[string]string
	upstream    map[string]corpusAnswer
	differences map[string]corpusDifference
	servers     map[string]struct {
		Base           string // what stands before /v2/
		Models, Deepfn []string
	}
}

// readCorpus reads the corpus, with the differences of one stack beside those of all.
func readCorpus(t *testing.T, stack string) *corpus {
	t.Helper()
	c := &corpus{}
	read := func(name string, v any) {
		data, err := os.ReadFile(filepath.Join(corpusDir, name))
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	read("requests.json", &c.requests)
	read("models.json", &c.models)
	read("upstream.json", &c.upstream)
	read("servers.json", &c.servers)
	read("differences.json", &c.differences)
	if stack != "" {
		var more map[string]corpusDifference
		read("differences-"+stack+".json", &more)
		maps.Copy(c.differences, more)
	}
	return c
}

// folders writes an action for each of the models.
func (c *corpus) folders(t *testing.T, models []string, python string) string {
	t.Helper()
	dir := t.TempDir()
	modules, err := filepath.Abs(corpusModules)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range models {
		text, err := json.MarshalIndent(map[string]any{
			"name": name, "runtime": "python",
			"python": map[string]any{
				"module": c.models[name], "interpreter": python,
				"env": map[string]string{"PYTHONPATH": modules, "PYTHONWARNINGS": "ignore"},
			},
		}, "", "  ")
		folder := filepath.Join(dir, name)
		if err = errors.Join(err, os.Mkdir(folder, 0o755), os.WriteFile(filepath.Join(folder, "action.yaml"), text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// without takes members out of a document, or out of each document of the list of models.
func without(t *testing.T, body string, names []string) string {
	t.Helper()
	cut := func(doc map[string]json.RawMessage) {
		for _, name := range names {
			if _, ok := doc[name]; !ok {
				t.Errorf("the member %q that is more than upstream's is not there", name)
			}
			delete(doc, name)
		}
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Errorf("%v: %q", err, body)
		return body
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(doc["models"], &list); err == nil {
		for _, item := range list {
			cut(item)
		}
		doc["models"] = encode(t, list)
	} else {
		cut(doc)
	}
	return string(encode(t, doc))
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// check compares an answer with upstream's, or with what the list of differences has in
// its place. It says whether it was upstream's.
func (c *corpus) check(t *testing.T, r *corpusRequest, got corpusAnswer) (equal bool) {
	t.Helper()
	upstream, ok := c.upstream[r.Name]
	if !ok {
		t.Fatal("upstream.json has no answer; run record.py")
	}
	found := r.differs(upstream, got)
	d, listed := c.differences[r.Name]
	switch {
	case !listed || d.None:
		if found != "" {
			t.Errorf("not as upstream: %s\ngot: %s", found, encode(t, got))
		}
		return found == ""
	case d.Why == "":
		t.Error("the list of differences does not say why")
	case found == "":
		t.Error("the answer is upstream's, but a difference is listed")
	case d.More != nil:
		want := d.want(t, upstream, got)
		got.Body, want.Body = without(t, got.Body, d.More), without(t, want.Body, nil)
		if found := r.differs(want, got); found != "" {
			t.Errorf("beside %v: %s", d.More, found)
		}
	default:
		if found := r.differs(d.want(t, upstream, got), got); found != "" {
			t.Errorf("not as the list of differences has it: %s\ngot: %s", found, encode(t, got))
		}
	}
	return false
}

// send sends all requests that are for one server, and counts the answers that are
// upstream's and those that differ as listed.
func (c *corpus) send(t *testing.T, name, python string) (equal, listed int) {
	t.Helper()
	server := c.servers[name]
	models := server.Models
	if models == nil {
		models = slices.Sorted(maps.Keys(c.models))
	}
	args := []string{"--catalog", c.folders(t, models, python), "--data", t.TempDir(), "--idle-time", "-1s"}
	p := serve(t, append(args, server.Deepfn...)...)
	address := strings.TrimPrefix(p.base, "http://")
	for _, model := range models { // before the first call a server knows nothing of what is in a module
		warm := corpusRequest{Method: http.MethodPost}
		warm.ask(t, address, server.Base+"/v2/models/"+model+"/predict/")
	}
	answers := make(map[string]corpusAnswer)
	for _, r := range c.requests {
		if r.Server != name && (r.Server != "" || name != "all") {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			before := answers[r.UUIDOf]
			uuid, _ := before.uuid()
			path := strings.ReplaceAll(r.Path, "{uuid}", uuid)
			got := r.ask(t, address, path)
			if r.Until != "" {
				eventually(t, r.Until, func() bool {
					got = r.ask(t, address, path)
					_, status := got.uuid()
					return status != "running"
				})
			}
			answers[r.Name] = got
			if c.check(t, &r, got) {
				equal++
			} else if !t.Failed() {
				listed++
			}
		})
	}
	return equal, listed
}

// TestCorpus sends each request of the corpus to a server with the sample modules. The
// answers are those of the published DEEPaaS server, or they differ as the list says.
func TestCorpus(t *testing.T) {
	for _, stack := range []struct{ name, variable, differences string }{
		{"deepaas", "DEEPFN_TEST_PYTHON_DEEPAAS", ""},
		{"current", "DEEPFN_TEST_PYTHON_CURRENT", "current"},
	} {
		t.Run(stack.name, func(t *testing.T) {
			python := os.Getenv(stack.variable)
			if python == "" {
				t.Fatalf("%s is not set; run make test", stack.variable)
			}
			c := readCorpus(t, stack.differences)
			for name := range c.differences {
				if _, ok := c.upstream[name]; !ok {
					t.Errorf("differences: there is no request %q", name)
				}
			}
			var equal, listed int
			for _, name := range slices.Sorted(maps.Keys(c.servers)) {
				t.Run(name, func(t *testing.T) {
					e, l := c.send(t, name, python)
					equal, listed = equal+e, listed+l
				})
			}
			t.Logf("of %d requests, %d were answered as by the published server, %d differ as listed", len(c.requests), equal, listed)
		})
	}
}
