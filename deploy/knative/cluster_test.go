package knative_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// The paths of objects in the fake.
const (
	servicePath = "serving.knative.dev/v1/namespaces/vision/services/"
	brokerPath  = "eventing.knative.dev/v1/namespaces/vision/brokers/"
	triggerPath = "eventing.knative.dev/v1/namespaces/vision/triggers/"
)

// apply applies and returns what was reported.
func apply(t *testing.T, c *knative.Cluster, d wish.Deployment, force bool) ([]string, error) {
	t.Helper()
	var steps []string
	err := c.Apply(t.Context(), d, force, func(s knative.Step) { steps = append(steps, s.String()) })
	return steps, err
}

// TestApply follows a function from its first deployment to its removal.
func TestApply(t *testing.T) {
	f := newFakeAPI(t)
	c := f.connect()
	d := pipeline()
	d.Triggers = d.Triggers[1:2]
	steps, err := apply(t, c, d, false)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"created configmap dates-code-75222d6f9b", "created broker texts", "created sinkbinding dates-sink",
		"created service dates", "created trigger dates-on-fa45039356",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("the first time: -want +got:\n%s", diff)
	}

	steps, err = apply(t, c, d, false)
	if err != nil || slices.ContainsFunc(steps, func(s string) bool { return !strings.HasPrefix(s, "unchanged ") }) {
		t.Errorf("the second time: got %q (%v), want all unchanged", steps, err)
	}

	d.Timeout, d.Triggers, d.Sink, d.Overrides, d.Code.Data = time.Minute, []wish.Trigger{{}}, "", nil, []byte("x")
	steps, err = apply(t, c, d, false)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{
		"removed sinkbinding dates-sink: it is not asked for any more", // before the service changes
		"created configmap dates-code-fc367c7a24", "unchanged broker texts", "changed service dates",
		"created trigger dates-on-27548936c4", // before the other goes
		"removed trigger dates-on-fa45039356: it is not asked for any more",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("something else: -want +got:\n%s", diff)
	}

	f.put(servicePath+"other", map[string]any{"kind": "Service", "metadata": map[string]any{"name": "other"}})
	steps = nil
	if err := c.Remove(t.Context(), "dates", func(s knative.Step) { steps = append(steps, s.String()) }); err != nil {
		t.Fatal(err)
	}
	if got := f.names(); !slices.Equal(got, []string{"services/other"}) {
		t.Errorf("after the removal there is %q, want what others made", got)
	}
	if len(steps) != 5 || !strings.HasPrefix(steps[0], "removed trigger") { // both codes
		t.Errorf("got %q, want 5 steps and the trigger first", steps)
	}
	if err := c.Remove(t.Context(), "dates", func(knative.Step) {}); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("a second removal: got %v, want not found", err)
	}
}

// TestOthers: what others have made, or set, is theirs.
func TestOthers(t *testing.T) {
	f := newFakeAPI(t)
	c := f.connect()
	f.put(servicePath+"ocr-line", map[string]any{"kind": "Service", "metadata": map[string]any{
		"name": "ocr-line", "labels": map[string]any{"app.kubernetes.io/managed-by": "Helm"},
	}})
	d := function()
	_, err := apply(t, c, d, false)
	if actions.CodeOf(err) != actions.Conflict || !strings.Contains(err.Error(), "was made by Helm") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a service of Helm's: got %v, want a conflict that names it", err)
	}
	if steps, err := apply(t, c, d, true); err != nil || len(steps) != 1 {
		t.Errorf("forced: got %q, %v", steps, err)
	}

	f.conflicts[servicePath+"ocr-line"] = "kubectl-edit"
	_, err = apply(t, c, d, false)
	if actions.CodeOf(err) != actions.Conflict || !strings.Contains(err.Error(), `.spec.template.spec.containers (conflict with "kubectl-edit"`) {
		t.Errorf("a field of kubectl's: got %v, want a conflict that names both", err)
	}
	f.conflicts[servicePath+"ocr-line"] = "eventing-webhook"
	if _, err = apply(t, c, d, false); err != nil {
		t.Errorf("the K_SINK of Eventing: got %v, want it taken over", err)
	}
}

// TestBrokers: one that is there is used, and is removed by who made it when nobody else uses it.
func TestBrokers(t *testing.T) {
	f := newFakeAPI(t)
	c := f.connect()
	d := function()
	d.Triggers = []wish.Trigger{{}}
	if _, err := apply(t, c, d, false); actions.CodeOf(err) != actions.NotFound || !strings.Contains(err.Error(), "--create-broker") {
		t.Errorf("no broker: got %v, want what to do", err)
	}
	d.Broker.Create = true
	if _, err := apply(t, c, d, false); err != nil {
		t.Fatal(err)
	}
	second := d
	second.Name = "second"
	steps, err := apply(t, c, second, false)
	if err != nil || steps[0] != "left broker default: it is there already" {
		t.Errorf("a broker of another: got %q, %v", steps, err)
	}
	steps = nil
	if err := c.Remove(t.Context(), "ocr-line", func(s knative.Step) { steps = append(steps, s.String()) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(steps, "left broker default: 1 triggers of others use it") {
		t.Errorf("got %q, want the broker left", steps)
	}
}

func TestStatus(t *testing.T) {
	f := newFakeAPI(t)
	c := f.connect()
	d := function()
	d.Sink, d.Image = "broker:default", "me/deepfn:7"
	if _, err := apply(t, c, d, false); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"ocr-line-00001", "ocr-line-00002"} {
		f.put("serving.knative.dev/v1/namespaces/vision/revisions/"+name, map[string]any{
			"kind": "Revision", "metadata": map[string]any{"name": name, "generation": 1},
			"spec": map[string]any{"containers": []any{map[string]any{"image": "me/deepfn:7"}}},
			"status": map[string]any{
				"observedGeneration": 1, "actualReplicas": i,
				"conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
			},
		})
	}
	got, err := c.Status(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ready := knative.Condition{State: knative.Ready}
	want := []knative.Status{{
		Name: "ocr-line", Namespace: "vision", Model: "ocr-line", ModelVersion: "PP-OCRv4", Release: "1.2.3", URL: "http://ocr-line.vision.example.org", Condition: ready,
		Revisions: []knative.Revision{
			{Name: "ocr-line-00002", Percent: 10, Replicas: 1, Image: "me/deepfn:7", Condition: ready},
			{Name: "ocr-line-00001", Percent: 90, Image: "me/deepfn:7", Condition: ready},
		},
		Objects: []knative.Object{{Kind: "sinkbinding", Name: "ocr-line-sink", Address: "http://broker", Condition: ready}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := c.Status(t.Context(), []string{"nobody"}); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("nobody: got %v, want not found", err)
	}
	f.groups = f.groups[:1] // without Eventing there is nothing of it
	if got, err := c.Status(t.Context(), nil); err != nil || len(got[0].Objects) != 0 {
		t.Errorf("without Eventing: got %v, %v", got, err)
	}
}

func TestWait(t *testing.T) {
	deploy := func(t *testing.T, ready func(kind, name string) (string, string)) (*fakeAPI, *knative.Cluster) {
		t.Helper()
		f := newFakeAPI(t)
		c := f.connect()
		d := function()
		d.Triggers, d.Broker.Create = []wish.Trigger{{}}, true
		if _, err := apply(t, c, d, false); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.ready = ready
		f.mu.Unlock()
		return f, c
	}
	t.Run("ready later", func(t *testing.T) {
		asked := 0
		_, c := deploy(t, func(kind, _ string) (string, string) {
			if kind != "Trigger" {
				return "True", ""
			}
			if asked++; asked < 4 { // failed is not yet failed for good
				return "False", "BrokerNotReady"
			}
			return "True", ""
		})
		if s, err := c.Wait(t.Context(), "ocr-line"); err != nil || s.State != knative.Ready || asked < 4 {
			t.Errorf("got %v, %v after %d looks", s, err, asked)
		}
	})
	t.Run("a service that takes its time", func(t *testing.T) {
		var began time.Time
		_, c := deploy(t, func(kind, _ string) (string, string) {
			if began.IsZero() {
				began = time.Now()
			}
			loading := time.Since(began) < 100*time.Millisecond // several times what failures are believed after
			switch {
			case loading && kind == "Trigger":
				return "False", "SubscriberResolveFailed"
			case loading && kind == "Service":
				return "Unknown", "RevisionMissing"
			}
			return "True", ""
		})
		if s, err := c.Wait(t.Context(), "ocr-line"); err != nil || s.State != knative.Ready {
			t.Errorf("got %v, %v; want that the Trigger is waited for", s, err)
		}
	})
	t.Run("failed", func(t *testing.T) {
		f, c := deploy(t, func(kind, _ string) (string, string) {
			if kind == "Service" || kind == "Revision" {
				return "False", "RevisionFailed"
			}
			return "True", ""
		})
		f.put("serving.knative.dev/v1/namespaces/vision/revisions/ocr-line-00002", map[string]any{"kind": "Revision", "metadata": map[string]any{"name": "ocr-line-00002"}})
		f.put("v1/namespaces/vision/events/e1", map[string]any{
			"kind": "ConfigMap", "involvedObject": map[string]any{"kind": "Pod", "name": "ocr-line-00002-deployment-x"}, "reason": "Failed", "message": "no such image",
		})
		_, err := c.Wait(t.Context(), "ocr-line")
		if actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "RevisionFailed: so it is") || !strings.Contains(err.Error(), "pod Failed: no such image") {
			t.Errorf("got %v, want unavailable with both reasons", err)
		}
	})
	t.Run("too late", func(t *testing.T) {
		_, c := deploy(t, func(string, string) (string, string) { return "Unknown", "Deploying" })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := c.Wait(ctx, "ocr-line"); actions.CodeOf(err) != actions.Deadline || !strings.Contains(err.Error(), "service ocr-line: Deploying") {
			t.Errorf("got %v, want a deadline with the reason", err)
		}
	})
	t.Run("gone", func(t *testing.T) {
		_, c := deploy(t, func(string, string) (string, string) { return "True", "" })
		if _, err := c.Wait(t.Context(), "nobody"); actions.CodeOf(err) != actions.NotFound {
			t.Errorf("got %v, want not found", err)
		}
	})
}

func TestFailures(t *testing.T) {
	status := func(code int32, reason metav1.StatusReason, message string) metav1.Status {
		return metav1.Status{Status: "Failure", Code: code, Reason: reason, Message: message}
	}
	noNamespace := status(404, metav1.StatusReasonNotFound, `namespaces "vision" not found`)
	noNamespace.Details = &metav1.StatusDetails{Kind: "namespaces", Name: "vision"}
	for _, test := range []struct {
		name   string
		on     string
		status metav1.Status
		code   actions.Code
		want   string
	}{
		{"webhook", "PATCH services", status(400, metav1.StatusReasonBadRequest, `admission webhook "validation.webhook.serving.knative.dev" denied the request: validation failed: no: spec.x`), actions.Invalid, "service ocr-line: Knative does not take it: no: spec.x"},
		{"forbidden", "PATCH services", status(403, metav1.StatusReasonForbidden, "user cannot patch"), actions.Forbidden, "services.serving.knative.dev"},
		{"unauthorized", "GET services", status(401, metav1.StatusReasonUnauthorized, "Unauthorized"), actions.Unauthorized, "credentials"},
		{"no namespace", "PATCH services", noNamespace, actions.NotFound, "kubectl create namespace vision"},
		{"conflict", "PATCH services", status(409, metav1.StatusReasonConflict, "the object has been modified"), actions.Conflict, "run it again"},
		{"invalid", "PATCH services", status(422, metav1.StatusReasonInvalid, "unknown field"), actions.Invalid, "unknown field"},
		{"too large", "PATCH services", status(413, metav1.StatusReasonRequestEntityTooLarge, "too large"), actions.TooLarge, "too large"},
		{"broken", "PATCH services", status(500, metav1.StatusReasonInternalError, "etcd is down"), actions.Unavailable, "etcd is down"},
		{"list", "GET triggers", status(500, metav1.StatusReasonInternalError, "etcd is down"), actions.Unavailable, "the list of triggers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeAPI(t)
			f.refuse[test.on] = test.status
			_, err := apply(t, f.connect(), function(), false)
			if actions.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v (%s), want %s with %q", err, actions.CodeOf(err), test.code, test.want)
			}
		})
	}
}

// TestServingOnly: who may do nothing with Eventing can deploy what has no events.
func TestServingOnly(t *testing.T) {
	f := newFakeAPI(t)
	forbidden := metav1.Status{Status: "Failure", Code: 403, Reason: metav1.StatusReasonForbidden, Message: "user cannot list"}
	f.refuse["GET triggers"], f.refuse["GET sinkbindings"] = forbidden, forbidden
	c := f.connect()
	if _, err := apply(t, c, function(), false); err != nil {
		t.Errorf("without events: %v", err)
	}
	d := function()
	d.Sink = "broker:default"
	if _, err := apply(t, c, d, false); actions.CodeOf(err) != actions.Forbidden {
		t.Errorf("with a sink: got %v, want forbidden", err)
	}
}

func TestNotInstalled(t *testing.T) {
	f := newFakeAPI(t)
	f.groups = []string{"serving.knative.dev/v1"}
	c := f.connect()
	if _, err := apply(t, c, function(), false); err != nil {
		t.Errorf("a function without events wants no Eventing: %v", err)
	}
	_, err := apply(t, c, pipeline(), false)
	if actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "Knative Eventing is not installed") {
		t.Errorf("got %v, want that there is no Eventing", err)
	}
	f.groups = nil
	if _, err := c.Status(t.Context(), nil); actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "Knative Serving is not installed") {
		t.Errorf("got %v, want that there is no Serving", err)
	}
}

// TestSettings: the cluster's own settings decide what is taken.
func TestSettings(t *testing.T) {
	f := newFakeAPI(t)
	c := f.connect()
	d := function()
	d.Timeout = 15 * time.Minute
	if _, err := apply(t, c, d, false); actions.CodeOf(err) != actions.Invalid {
		t.Errorf("15 minutes with the defaults: got %v, want invalid", err)
	}
	f.put("v1/namespaces/knative-serving/configmaps/config-defaults", map[string]any{"kind": "ConfigMap", "data": map[string]any{"max-revision-timeout-seconds": "1200"}})
	if _, err := apply(t, c, d, false); err != nil {
		t.Errorf("15 minutes where 20 are allowed: %v", err)
	}
	_, err := apply(t, c, relay(), false)
	if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), `"kubernetes.podspec-securitycontext": "enabled", "kubernetes.podspec-volumes-hostpath": "enabled"`) {
		t.Errorf("a relay with the defaults: got %v, want what to switch on", err)
	}
	f.put("v1/namespaces/knative-serving/configmaps/config-features", map[string]any{"kind": "ConfigMap", "data": map[string]any{
		"kubernetes.podspec-securitycontext": "enabled", "kubernetes.podspec-volumes-hostpath": "enabled",
	}})
	if _, err := apply(t, c, relay(), false); err != nil {
		t.Errorf("a relay where it is allowed: %v", err)
	}
	f.put("v1/namespaces/knative-serving/configmaps/config-defaults", map[string]any{"kind": "ConfigMap", "data": map[string]any{"max-revision-timeout-seconds": "many"}})
	if _, err := apply(t, c, d, false); actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "knative-serving/config-defaults") {
		t.Errorf("settings that are none: got %v", err)
	}
}

func TestConnect(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, test := range []struct {
		name    string
		cluster wish.Cluster
		want    string
	}{
		{"nothing is named", wish.Cluster{}, "--kubeconfig"},
		{"no such file", wish.Cluster{Kubeconfig: filepath.Join(t.TempDir(), "none")}, "none"},
		{"no such context", wish.Cluster{Kubeconfig: kubeconfig(t, "http://127.0.0.1:1"), Context: "there"}, "there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := knative.Connect(knative.Config{Cluster: test.cluster})
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want invalid with %q", err, test.want)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	c, err := knative.Connect(knative.Config{Cluster: wish.Cluster{Kubeconfig: kubeconfig(t, closed.URL)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context(), nil); actions.CodeOf(err) != actions.Unavailable || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("got %v, want unavailable and what to do", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Apply(ctx, function(), false, func(knative.Step) {}); err == nil {
		t.Error("a cancelled apply: got no error")
	}
}
