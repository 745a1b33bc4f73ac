package deploy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

const testKey = "11111111-2222-3333-4444-555555555555:secret"

// A platform is an OpenWhisk of a test: it keeps what is sent, as the documents of the API
// say, and fails where it is told.
type platform struct {
	t    *testing.T
	url  string
	info string // the document at the root
	own  string // the namespace's limits

	mu       sync.Mutex // guards all below
	requests []string   // "PUT path?query"
	bodies   []string   // of the same
	actions  map[string]whisk.Action
	packages map[string]whisk.Package
	records  []whisk.Activation // the oldest first
	// fail maps "METHOD /path" to an answer; the request is answered with it once.
	fail map[string]fault
	// hook runs before each answer.
	hook func(r *http.Request)
}

type fault struct {
	status int
	body   string
}

// newPlatform starts one whose document at the root says what it allows.
func newPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{
		t: t, info: "{}", own: "{}",
		actions: map[string]whisk.Action{}, packages: map[string]whisk.Package{}, fail: map[string]fault{},
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// connect returns a client of it.
func (p *platform) connect() *deploy.Client {
	p.t.Helper()
	c, err := deploy.Connect(p.t.Context(), deploy.Config{Host: p.url, Auth: testKey, Release: "9.9.9", Poll: time.Millisecond})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// sent returns what changed something since the last call of sent: "METHOD path body".
func (p *platform) sent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for i, request := range p.requests {
		if !strings.HasPrefix(request, "GET ") {
			out = append(out, strings.TrimSpace(request+" "+p.bodies[i]))
		}
	}
	p.requests, p.bodies = nil, nil
	return out
}

// ServeHTTP answers as an OpenWhisk.
func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if p.hook != nil {
		p.hook(r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r.Method+" "+r.URL.RequestURI())
	p.bodies = append(p.bodies, strings.TrimSpace(string(body)))
	if f, ok := p.fail[r.Method+" "+r.URL.Path]; ok {
		delete(p.fail, r.Method+" "+r.URL.Path)
		w.WriteHeader(f.status)
		_, _ = io.WriteString(w, f.body)
		return
	}
	if r.URL.Path == "/" {
		_, _ = io.WriteString(w, p.info)
		return
	}
	if user, key, _ := r.BasicAuth(); user+":"+key != testKey {
		p.error(w, 401, "The supplied authentication is invalid.")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces")
	switch parts := strings.Split(strings.TrimPrefix(path, "/_/"), "/"); {
	case path == "":
		p.json(w, 200, []string{"guest"})
	case parts[0] == "limits":
		_, _ = io.WriteString(w, p.own)
	case parts[0] == "packages" && len(parts) == 2:
		p.pack(w, r, parts[1], body)
	case parts[0] == "actions" && (len(parts) == 1 || parts[len(parts)-1] == ""):
		p.list(w, r, strings.Join(parts[1:], "/"))
	case parts[0] == "actions":
		p.action(w, r, strings.Join(parts[1:], "/"), body)
	case parts[0] == "activations":
		p.activations(w, r, parts[1:])
	default:
		p.error(w, 404, "The requested resource does not exist.")
	}
}

func (p *platform) json(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *platform) error(w http.ResponseWriter, status int, text string) {
	p.json(w, status, map[string]string{"code": "tid", "error": text})
}

func (p *platform) pack(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	pkg, ok := p.packages[name]
	switch {
	case r.Method == http.MethodPut:
		if err := json.Unmarshal(body, &pkg); err != nil {
			p.error(w, 400, err.Error())
			return
		}
		pkg.Namespace, pkg.Name = "guest", name
		p.packages[name] = pkg
	case !ok:
		p.error(w, 404, "The requested resource does not exist.")
		return
	case r.Method == http.MethodDelete:
		delete(p.packages, name)
	}
	var in []whisk.PackageAction
	for full, a := range p.actions {
		if strings.HasPrefix(full, name+"/") {
			in = append(in, whisk.PackageAction{Name: a.Name, Version: a.Version, Annotations: a.Annotations})
		}
	}
	slices.SortFunc(in, func(a, b whisk.PackageAction) int { return strings.Compare(a.Name, b.Name) })
	pkg.Actions = &in
	p.json(w, 200, pkg)
}

func (p *platform) list(w http.ResponseWriter, r *http.Request, pkg string) {
	names := []string{}
	for name := range p.actions {
		if strings.HasPrefix(name, pkg) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	skip, _ := strconv.Atoi(r.URL.Query().Get("skip"))
	names = names[min(skip, len(names)):]
	page := []whisk.Action{}
	for _, name := range names[:min(limit, len(names))] {
		page = append(page, p.actions[name])
	}
	p.json(w, 200, page)
}

func (p *platform) action(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	there, ok := p.actions[name]
	switch {
	case r.Method == http.MethodPut && ok && r.URL.Query().Get("overwrite") != "true":
		p.error(w, 409, "resource already exists")
		return
	case r.Method == http.MethodPut:
		if err := p.put(&there, ok, name, body); err != nil {
			p.error(w, 400, err.Error())
			return
		}
	case !ok:
		p.error(w, 404, "The requested resource does not exist.")
		return
	case r.Method == http.MethodDelete:
		delete(p.actions, name)
	case r.Method == http.MethodPost:
		p.json(w, 200, p.record(name, whisk.Success, `{"ok":true}`))
		return
	}
	if pkg, _, ok := strings.Cut(name, "/"); ok && r.Method == http.MethodGet {
		there.Parameters = p.packages[pkg].Parameters.Merge(there.Parameters)
	}
	if r.URL.Query().Get("code") == "false" {
		there.Exec.Code = nil
	}
	p.json(w, 200, there)
}

// put merges what was sent into an action, as updateWhiskAction of Actions.scala does.
func (p *platform) put(a *whisk.Action, exists bool, name string, body []byte) error {
	var in struct {
		Exec           *whisk.Exec     `json:"exec"`
		Annotations    whisk.KeyValues `json:"annotations"`
		DelAnnotations []string        `json:"delAnnotations"`
		Parameters     whisk.KeyValues `json:"parameters"`
		Limits         struct{ Timeout, Memory, Logs, Concurrency *int }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return err
	}
	if !exists {
		*a = whisk.Action{Namespace: "guest", Name: name, Version: "0.0.0", Limits: whisk.Limits{Timeout: 60000, Memory: 256, Logs: 10, Concurrency: 1}}
		if pkg, entity, ok := strings.Cut(name, "/"); ok {
			a.Namespace, a.Name = "guest/"+pkg, entity
		}
		if in.Exec == nil {
			return fmt.Errorf("exec undefined")
		}
	}
	if in.Exec != nil {
		a.Exec = *in.Exec
	}
	if in.Parameters != nil {
		a.Parameters = in.Parameters
	}
	for field, value := range map[*int]*int{
		&a.Limits.Timeout: in.Limits.Timeout, &a.Limits.Memory: in.Limits.Memory,
		&a.Limits.Logs: in.Limits.Logs, &a.Limits.Concurrency: in.Limits.Concurrency,
	} {
		if value != nil {
			*field = *value
		}
	}
	a.Annotations = slices.DeleteFunc(slices.Clone(a.Annotations), func(kv whisk.KeyValue) bool {
		return slices.Contains(in.DelAnnotations, kv.Key) || in.Annotations.Lookup(kv.Key) != nil
	})
	a.Annotations = append(a.Annotations, in.Annotations...)
	patch, _ := strconv.Atoi(strings.TrimPrefix(a.Version, "0.0."))
	a.Version = fmt.Sprintf("0.0.%d", patch+1)
	a.Updated = 1700000000000
	p.actions[name] = *a
	return nil
}

// record adds an activation of an action.
func (p *platform) record(name string, code int, result string) whisk.Activation {
	n := len(p.records)
	a := whisk.Activation{
		ID: fmt.Sprintf("%032x", n+1), Namespace: "guest", Name: name[strings.LastIndex(name, "/")+1:], Version: "0.0.1",
		Start: time.Date(2030, 1, 1, 0, 0, n, 0, time.UTC).UnixMilli(), Duration: 12,
		Response: whisk.Response{Code: code, Result: json.RawMessage(result)}, Logs: []string{fmt.Sprintf("2030-01-01T00:00:00Z stdout: line %d", n+1)},
	}
	p.records = append(p.records, a)
	return a
}

func (p *platform) activations(w http.ResponseWriter, r *http.Request, path []string) {
	if len(path) > 0 {
		for _, a := range p.records {
			switch {
			case a.ID != path[0]:
			case len(path) == 2:
				p.json(w, 200, map[string]any{"logs": a.Logs})
				return
			default:
				p.json(w, 200, a)
				return
			}
		}
		p.error(w, 404, "The requested resource does not exist.")
		return
	}
	query := r.URL.Query()
	name := query.Get("name")
	since, _ := strconv.ParseInt(query.Get("since"), 10, 64)
	limit, _ := strconv.Atoi(query.Get("limit"))
	list := []whisk.Activation{}
	for _, a := range slices.Backward(p.records) {
		if a.Name == name[strings.LastIndex(name, "/")+1:] && a.Start >= since && len(list) < limit {
			a.Logs = nil // as where logs are kept elsewhere
			list = append(list, a)
		}
	}
	p.json(w, 200, list)
}
