package knative_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/deepfn/deepfn/deploy/knative"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// A fakeAPI is as much of a Kubernetes as a Cluster asks for: discovery, and objects that are
// got, listed, applied and deleted, with generations and the conflicts of field managers. Nothing
// reconciles; ready says what the status of an object is.
type fakeAPI struct {
	t   *testing.T
	url string

	mu      sync.Mutex // guards the rest
	groups  []string   // that are installed
	objects map[string]map[string]any
	version int
	seen    []string // METHOD path, of what changes something

	ready     func(kind, name string) (status, reason string)
	conflicts map[string]string        // by path: who else has set the containers
	refuse    map[string]metav1.Status // by METHOD resource
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{
		t: t, objects: map[string]map[string]any{}, conflicts: map[string]string{}, refuse: map[string]metav1.Status{},
		groups: []string{"serving.knative.dev/v1", "eventing.knative.dev/v1", "sources.knative.dev/v1"},
		ready:  func(string, string) (string, string) { return "True", "" },
	}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// connect returns a Cluster that is the fake.
func (f *fakeAPI) connect() *knative.Cluster {
	f.t.Helper()
	c, err := knative.Connect(knative.Config{
		Cluster: wish.Cluster{Kubeconfig: kubeconfig(f.t, f.url), Namespace: "vision"}, Poll: time.Millisecond, Settle: 20 * time.Millisecond,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// kubeconfig writes a file that says where a Kubernetes is.
func kubeconfig(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me, namespace: models}}]
clusters: [{name: here, cluster: {server: %q}}]
users: [{name: me, user: {token: t}}]
`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// put is an object that somebody else has made.
func (f *fakeAPI) put(path string, object map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[path] = object
}

// names are the objects that are there, KIND/NAME.
func (f *fakeAPI) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := []string{}
	for path := range f.objects {
		parts := strings.Split(path, "/")
		names = append(names, strings.Join(parts[len(parts)-2:], "/"))
	}
	slices.Sort(names)
	return names
}

// ServeHTTP implements http.Handler.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"), "/api/")
	group, rest, namespaced := strings.Cut(path, "/namespaces/")
	if !namespaced {
		f.discover(w, group)
		return
	}
	parts := strings.Split(rest, "/")
	if refusal, found := f.refuse[r.Method+" "+parts[1]]; found && parts[0] == "vision" {
		answer(w, int(refusal.Code), refusal)
		return
	}
	if group != "v1" && !slices.Contains(f.groups, group) {
		answer(w, http.StatusNotFound, metav1.Status{Status: "Failure", Reason: metav1.StatusReasonNotFound, Message: "the server could not find the requested resource"})
		return
	}
	if r.Method != http.MethodGet {
		f.seen = append(f.seen, r.Method+" "+strings.Join(parts[1:], "/"))
	}
	if len(parts) == 2 {
		f.list(w, r, path)
		return
	}
	f.one(w, r, path)
}

func (f *fakeAPI) discover(w http.ResponseWriter, group string) {
	if !slices.Contains(f.groups, group) {
		answer(w, http.StatusNotFound, metav1.Status{Status: "Failure", Reason: metav1.StatusReasonNotFound, Message: "not found"})
		return
	}
	answer(w, http.StatusOK, metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: group})
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request, path string) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		f.t.Errorf("selector: %v", err)
	}
	items := []any{}
	for at, object := range f.objects {
		if strings.HasPrefix(at, path+"/") && selector.Matches(labels.Set(labelsOf(object))) {
			items = append(items, f.withStatus(object))
		}
	}
	answer(w, http.StatusOK, map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items})
}

func (f *fakeAPI) one(w http.ResponseWriter, r *http.Request, path string) {
	object, found := f.objects[path]
	switch {
	case r.Method == http.MethodPatch:
		f.apply(w, r, path)
	case !found:
		answer(w, http.StatusNotFound, metav1.Status{Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound, Message: path + " not found"})
	case r.Method == http.MethodGet:
		answer(w, http.StatusOK, f.withStatus(object))
	case r.Method == http.MethodDelete:
		delete(f.objects, path)
		answer(w, http.StatusOK, metav1.Status{Status: "Success"})
	default:
		f.t.Errorf("%s %s is not expected", r.Method, path)
	}
}

// apply is a server-side apply. A changed object has a new generation.
func (f *fakeAPI) apply(w http.ResponseWriter, r *http.Request, path string) {
	if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/apply-patch") {
		f.t.Errorf("the patch is %s, want server-side apply", got)
	}
	if got := r.URL.Query().Get("fieldManager"); got != "deepfn" {
		f.t.Errorf("got field manager %q, want deepfn", got)
	}
	if who := f.conflicts[path]; who != "" {
		if r.URL.Query().Get("force") != "true" {
			answer(w, http.StatusConflict, conflict(who))
			return
		}
		delete(f.conflicts, path)
	}
	body, err := io.ReadAll(r.Body)
	var object map[string]any
	if err != nil || json.Unmarshal(body, &object) != nil {
		f.t.Errorf("the patch of %s is no object: %s", path, body)
		return
	}
	meta, _ := object["metadata"].(map[string]any)
	f.version++
	generation := 1
	if before, found := f.objects[path]; found {
		old, _ := before["metadata"].(map[string]any)
		generation, _ = old["generation"].(int)
		if !reflect.DeepEqual(before["spec"], object["spec"]) {
			generation++
		}
	}
	meta["resourceVersion"], meta["uid"] = fmt.Sprint(f.version), path
	if object["kind"] != "ConfigMap" {
		meta["generation"] = generation
	} else if before, found := f.objects[path]; found {
		meta["resourceVersion"] = before["metadata"].(map[string]any)["resourceVersion"]
	}
	f.objects[path] = object
	answer(w, http.StatusOK, f.withStatus(object))
}

func conflict(who string) metav1.Status {
	return metav1.Status{
		Status: "Failure", Reason: metav1.StatusReasonConflict, Code: http.StatusConflict, Message: "Apply failed with 1 conflict",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
			Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.template.spec.containers", Message: fmt.Sprintf("conflict with %q using serving.knative.dev/v1", who),
		}}},
	}
}

// withStatus is an object as its controller has left it.
func (f *fakeAPI) withStatus(object map[string]any) map[string]any {
	meta, _ := object["metadata"].(map[string]any)
	kind, _ := object["kind"].(string)
	name, _ := meta["name"].(string)
	out := maps.Clone(object)
	if _, given := object["status"]; given || kind == "ConfigMap" {
		return out
	}
	ready, reason := f.ready(kind, name)
	status := map[string]any{
		"observedGeneration": meta["generation"],
		"conditions":         []any{map[string]any{"type": "Other", "status": "False"}, map[string]any{"type": "Ready", "status": ready, "reason": reason, "message": "so it is"}},
	}
	switch kind {
	case "Service":
		status["url"], status["latestCreatedRevisionName"] = "http://"+name+".vision.example.org", name+"-00002"
		status["traffic"] = []any{map[string]any{"revisionName": name + "-00001", "percent": 90}, map[string]any{"revisionName": name + "-00002", "percent": 10}}
	case "SinkBinding":
		status["sinkUri"] = "http://broker"
	}
	out["status"] = status
	return out
}

func labelsOf(object map[string]any) map[string]string {
	out := map[string]string{}
	meta, _ := object["metadata"].(map[string]any)
	list, _ := meta["labels"].(map[string]any)
	for key, value := range list {
		out[key] = fmt.Sprint(value)
	}
	return out
}

func answer(w http.ResponseWriter, code int, body any) {
	if s, ok := body.(metav1.Status); ok {
		s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		s.Code = int32(code)
		body = s
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
