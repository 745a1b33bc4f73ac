package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/deploy/knative/wish"
)

func request() wish.Request {
	return wish.Request{Release: "1.2.3", Deployment: &wish.Deployment{Function: wish.Function{Name: "ocr-line", Model: "ocr-line", Image: "me/deepfn:1"}}}
}

// ask runs the program with a request, which is a text or is written as JSON.
func ask(t *testing.T, req any, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	text, isText := req.(string)
	if !isText {
		raw, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	var out, errOut bytes.Buffer
	code = run(t.Context(), program{
		args: args, stdin: strings.NewReader(text), stdout: &out, stderr: &errOut, poll: time.Millisecond, settle: time.Millisecond,
	})
	return code, out.String(), errOut.String()
}

func TestDryRun(t *testing.T) {
	req := request()
	req.DryRun, req.Cluster.Namespace = true, "vision"
	code, out, errOut := ask(t, req, "deploy")
	if code != 0 || errOut != "" {
		t.Fatalf("got %d, %s", code, errOut)
	}
	for _, want := range []string{"Written by deepfn 1.2.3.", "kind: Service", "namespace: vision", "image: me/deepfn:1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	down := request()
	down.Cluster.Kubeconfig = kubeconfig(t, closed.URL)
	none := request()
	none.Deployment = nil
	none.DryRun = true
	wrong := request()
	wrong.DryRun, wrong.Deployment.Timeout = true, time.Hour
	for _, test := range []struct {
		name string
		req  any
		args []string
		code int
		want string
	}{
		{"no verb", "", nil, 2, "want one of deploy"},
		{"two verbs", "", []string{"deploy", "status"}, 2, "want one of deploy"},
		{"unknown verb", "", []string{"scale"}, 2, `no verb "scale"`},
		{"no request", "", []string{"deploy"}, 2, "the request"},
		{"no JSON", "x", []string{"status"}, 2, "have to be of one version"},
		{"a field of another version", `{"shards": 3}`, []string{"deploy"}, 2, "shards"},
		{"no deployment", none, []string{"deploy"}, 2, "no deployment"},
		{"refused", wrong, []string{"deploy"}, 2, "--timeout"},
		{"no cluster", request(), []string{"deploy"}, 2, "no Kubernetes is named"},
		{"unreachable", down, []string{"deploy"}, 4, "connection refused"},
		{"unreachable status", down, []string{"status"}, 4, "connection refused"},
		{"unreachable undeploy", down, []string{"undeploy"}, 4, "connection refused"},
		{"version", "", []string{"version"}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errOut := ask(t, test.req, test.args...)
			if code != test.code || !strings.Contains(errOut, test.want) {
				t.Errorf("got %d, %q, %q, want %d and %q", code, out, errOut, test.code, test.want)
			}
			if code == 0 && !strings.HasPrefix(out, "deepfn-knative ") {
				t.Errorf("got %q", out)
			}
		})
	}
}

// TestCluster deploys, shows and removes on an API server that knows no more than that.
func TestCluster(t *testing.T) {
	srv := httptest.NewServer(&tinyAPI{t: t})
	t.Cleanup(srv.Close)
	req := request()
	req.Cluster = wish.Cluster{Kubeconfig: kubeconfig(t, srv.URL), Namespace: "vision"}
	req.Wait = time.Minute
	code, out, errOut := ask(t, req, "deploy")
	if code != 0 || !strings.HasPrefix(out, "created service ocr-line\nready after ") || !strings.HasSuffix(out, "s\nhttp://ocr-line.example.org\n") {
		t.Errorf("deploy: got %d, %q, %q", code, out, errOut)
	}
	if !strings.Contains(errOut, "warning: it is cold") {
		t.Errorf("got %q, want the server's warning", errOut)
	}
	show := wish.Request{Cluster: req.Cluster}
	if code, out, errOut = ask(t, show, "status"); code != 0 || !strings.Contains(out, "service  ocr-line  ready") {
		t.Errorf("status: got %d, %q, %q", code, out, errOut)
	}
	show.JSON = true
	var list []struct{ Name, State, URL string }
	if code, out, errOut = ask(t, show, "status"); code != 0 || json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 || list[0].State != "ready" {
		t.Errorf("status as JSON: got %d, %q, %q", code, out, errOut)
	}
	if code, out, _ = ask(t, show, "undeploy"); code != 0 || out != "removed service ocr-line\n" {
		t.Errorf("undeploy: got %d, %q", code, out)
	}
	if code, _, errOut = ask(t, show, "undeploy"); code != 3 || !strings.Contains(errOut, "nothing there") {
		t.Errorf("a second undeploy: got %d, %q", code, errOut)
	}
}

// A tinyAPI is an API server that has one Service at most, which is ready at once.
type tinyAPI struct {
	t       *testing.T
	service map[string]any
}

// ServeHTTP implements http.Handler. The program asks one thing after the other.
func (a *tinyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const services = "/apis/serving.knative.dev/v1/namespaces/vision/services"
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Warning", `299 - "it is cold"`)
	notFound := map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
	status, body := http.StatusOK, any(map[string]any{"kind": "List", "apiVersion": "v1", "items": []any{}})
	switch {
	case r.URL.Path == "/apis/serving.knative.dev/v1":
		body = map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "serving.knative.dev/v1", "resources": []any{}}
	case r.Method == http.MethodPatch:
		if err := json.NewDecoder(r.Body).Decode(&a.service); err != nil {
			a.t.Error(err)
		}
		a.service["status"] = map[string]any{"url": "http://ocr-line.example.org", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
		body = a.service
	case r.Method == http.MethodDelete:
		a.service = nil
		body = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}
	case r.URL.Path == services && a.service != nil:
		body = map[string]any{"kind": "List", "apiVersion": "v1", "items": []any{a.service}}
	case strings.HasPrefix(r.URL.Path, services+"/") && a.service != nil:
		body = a.service
	case strings.Count(r.URL.Path, "/") > 6 || strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/knative-"):
		status, body = http.StatusNotFound, notFound
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func kubeconfig(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": "` + url + `"}}], "users": [{"name": "u", "user": {}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
