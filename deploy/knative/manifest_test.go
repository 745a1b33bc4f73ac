package knative_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

var update = flag.Bool("update", false, "write the golden files")

// function is a function with nothing but what it needs.
func function() wish.Deployment {
	return wish.Deployment{Release: "1.2.3", Function: wish.Function{
		Name: "ocr-line", Model: "ocr-line", ModelVersion: "PP-OCRv4", Image: "registry.example.org/deepfn:1.2.3",
	}}
}

// full is a function with most of what one may have.
func full() wish.Deployment {
	d := function()
	d.Instances, d.Concurrency = 2, new(4)
	d.Timeout, d.ResponseStart, d.IdleTimeout, d.LoadTime = 90*time.Second, time.Minute, 1500*time.Millisecond, 20*time.Minute
	d.Resources = wish.Resources{CPU: "500m", MemoryRequest: "700Mi", Memory: "2Gi", GPUs: 1, GPUResource: "nvidia.com/mig-1g.10gb"}
	d.Scale = map[string]string{"min-scale": "1", "max-scale": "8", "window": "30s", "target-burst-capacity": "-1"}
	d.Env = map[string]string{"DEEPFN_LOG_LEVEL": "debug", "A": "x"}
	d.Secrets, d.PullSecrets, d.ServiceAccount = []string{"s3"}, []string{"registry"}, "models"
	d.Labels, d.Annotations = map[string]string{"team": "vision"}, map[string]string{"example.org/owner": "me"}
	d.ClusterLocal, d.ReadOnly = true, true
	return d
}

// pipeline is code that gets events and sends some.
func pipeline() wish.Deployment {
	d := function()
	d.Name, d.Model, d.ModelVersion = "dates", "dates", ""
	d.Code = &wish.Code{File: "dates.py", Data: []byte("def predict(text):\n    return {}\n")}
	d.Broker = wish.Broker{Name: "texts", Create: true, Class: "MTChannelBasedBroker"}
	d.Triggers = []wish.Trigger{
		{},
		{Attributes: map[string]string{"type": "text.read", "source": "/scanner", "priority": "1"}},
		{Attributes: map[string]string{"priority": "2"}},
		{SQL: "type LIKE 'text.%'"},
		{Attributes: map[string]string{"type": "text.read"}, SQL: "EXISTS page"},
	}
	d.Delivery = wish.Delivery{Retry: new(5), Backoff: "exponential", Delay: 250 * time.Millisecond, Timeout: 90 * time.Second, DeadLetter: "ksvc:ops/failed"}
	d.Sink, d.Overrides = "broker:texts", map[string]string{"stage": "dates"}
	return d
}

// relay is a function whose model a node runtime has.
func relay() wish.Deployment {
	d := function()
	d.Image, d.Node, d.Timeout = "registry.example.org/deepfn-relay:1.2.3", "unix:///run/deepfn/node.sock", time.Minute
	return d
}

// TestManifest compares with testdata; go test ./deploy/knative -update writes it anew.
func TestManifest(t *testing.T) {
	for _, test := range []struct {
		name, namespace string
		d               wish.Deployment
	}{
		{"function", "", function()},
		{"full", "vision", full()},
		{"pipeline", "vision", pipeline()},
		{"relay", "vision", relay()},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := knative.Manifest(t.Context(), test.d, test.namespace)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", test.name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			again, err := knative.Manifest(t.Context(), test.d, test.namespace)
			if err != nil || string(again) != string(got) {
				t.Errorf("a second manifest is another one (%v):\n%s", err, cmp.Diff(string(got), string(again)))
			}
		})
	}
}

func TestNames(t *testing.T) {
	d := pipeline()
	d.Name = strings.Repeat("n", 63)
	out, err := knative.Manifest(t.Context(), d, "")
	if err != nil {
		t.Fatalf("a function whose name has all the letters that one may have: %v", err)
	}
	names := map[string]int{}
	for line := range strings.Lines(string(out)) {
		if name, found := strings.CutPrefix(line, "  name: "); found {
			names[strings.TrimSpace(name)]++
		}
	}
	if len(names) != 9 { // code, broker, binding, service, five triggers
		t.Errorf("got %d names, want 9: %v", len(names), names)
	}
	for name := range names {
		if len(name) > 63 {
			t.Errorf("%s has %d characters, want 63 at most", name, len(name))
		}
	}
}

// TestCodeHasItsName: other code is another ConfigMap, so that an older revision keeps its own.
func TestCodeHasItsName(t *testing.T) {
	line := func(d wish.Deployment) string {
		out, err := knative.Manifest(t.Context(), d, "")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(out), "  name: dates-code-")
		name, _, _ := strings.Cut(rest, "\n")
		return name
	}
	a, b := pipeline(), pipeline()
	b.Code.Data = append(b.Code.Data, '\n')
	if line(a) == "" || line(a) == line(b) {
		t.Errorf("got %q and %q, want two names", line(a), line(b))
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*wish.Deployment)
		want   string // in the message
		code   actions.Code
	}{
		{"no image", func(d *wish.Deployment) { d.Image = "" }, "--image", actions.Invalid},
		{"no model", func(d *wish.Deployment) { d.Model = "" }, "wants a name, a model", actions.Invalid},
		{"an image that is none", func(d *wish.Deployment) { d.Image = "a b" }, "--image: Failed to parse image reference", actions.Invalid},
		{"a name that is none", func(d *wish.Deployment) { d.Name = "Ocr" }, "--name: not a DNS 1035 label", actions.Invalid},
		{"a name that is too long", func(d *wish.Deployment) { d.Name = strings.Repeat("n", 64) }, "--name", actions.Invalid},
		{"reserved variable", func(d *wish.Deployment) { d.Env = map[string]string{"PORT": "1"} }, `--env: "PORT" is a reserved`, actions.Invalid},
		{"reserved variable of Knative", func(d *wish.Deployment) { d.Env = map[string]string{"K_SERVICE": "x"} }, `--env: "K_SERVICE"`, actions.Invalid},
		{"timeout over the limit", func(d *wish.Deployment) { d.Timeout = 601 * time.Second }, "--timeout: expected 0 <= 601 <= 600", actions.Invalid},
		{"timeout under a second", func(d *wish.Deployment) { d.Timeout = time.Millisecond }, "--timeout", actions.Invalid},
		{"first byte after the last", func(d *wish.Deployment) { d.Timeout, d.ResponseStart = time.Minute, time.Hour }, "--response-start", actions.Invalid},
		{"negative load time", func(d *wish.Deployment) { d.LoadTime = -1 }, "--load-time", actions.Invalid},
		{"endless load time", func(d *wish.Deployment) { d.LoadTime = 1 << 62 }, "--load-time", actions.Invalid},
		{"concurrency", func(d *wish.Deployment) { d.Concurrency = new(1001) }, "--concurrency: expected 0 <= 1001 <= 1000", actions.Invalid},
		{"negative concurrency", func(d *wish.Deployment) { d.Concurrency = new(-1) }, "--concurrency", actions.Invalid},
		{"scale", func(d *wish.Deployment) { d.Scale = map[string]string{"min-scale": "3", "max-scale": "2"} }, "--min-scale", actions.Invalid},
		{"unknown scale", func(d *wish.Deployment) { d.Scale = map[string]string{"minscale": "3"} }, "--autoscale minscale", actions.Invalid},
		{"window", func(d *wish.Deployment) { d.Scale = map[string]string{"window": "1s"} }, "--autoscale window: expected 6s", actions.Invalid},
		{"memory", func(d *wish.Deployment) { d.Memory = "much" }, "--memory much", actions.Invalid},
		{"no memory", func(d *wish.Deployment) { d.Memory = "0" }, "--memory 0", actions.Invalid},
		{"gpu", func(d *wish.Deployment) { d.GPUs = -1 }, "--gpu -1", actions.Invalid},
		{"service account", func(d *wish.Deployment) { d.ServiceAccount = "A b" }, "--service-account", actions.Invalid},
		{"our label", func(d *wish.Deployment) { d.Labels = map[string]string{"app.kubernetes.io/instance": "x"} }, "--label app.kubernetes.io/instance", actions.Invalid},
		{"our annotation", func(d *wish.Deployment) { d.Annotations = map[string]string{"deepfn.dev/model": "x"} }, "--annotation deepfn.dev/model", actions.Invalid},
		{"node", func(d *wish.Deployment) { d.Node = "http://x" }, "--node http://x", actions.Invalid},
		{"node in the root", func(d *wish.Deployment) { d.Node = "unix:///node.sock" }, "--node", actions.Invalid},
		{"node and gpu", func(d *wish.Deployment) { d.Node, d.GPUs = "unix:///run/d/node.sock", 1 }, "--node and --gpu", actions.Invalid},
		{"node and code", func(d *wish.Deployment) { d.Node, d.Code = "unix:///run/d/node.sock", &wish.Code{File: "a.py"} }, "--node and code", actions.Invalid},
		{"much code", func(d *wish.Deployment) { d.Code = &wish.Code{File: "a.py", Data: make([]byte, wish.MaxCode+1)} }, "1008", actions.TooLarge},
		{"delivery of nothing", func(d *wish.Deployment) { d.Delivery.Retry = new(1) }, "say which with --on", actions.Invalid},
		{"overrides of nothing", func(d *wish.Deployment) { d.Overrides = map[string]string{"a": "b"} }, "--ce-override is for", actions.Invalid},
		{"override of an attribute", func(d *wish.Deployment) { d.Sink, d.Overrides = "broker:x", map[string]string{"Subject": "b"} }, "--ce-override: ", actions.Invalid},
		{"class of nothing", func(d *wish.Deployment) { d.Broker.Class = "Kafka" }, "--create-broker", actions.Invalid},
		{"sink", func(d *wish.Deployment) { d.Sink = "kafka:x" }, "--sink kafka:x: want broker:NAME", actions.Invalid},
		{"sink without a name", func(d *wish.Deployment) { d.Sink = "broker:" }, "want broker:NAME", actions.Invalid},
		{"attribute", func(d *wish.Deployment) { d.Triggers = []wish.Trigger{{Attributes: map[string]string{"Type": "x"}}} }, "--on", actions.Invalid},
		{"attribute of nothing", func(d *wish.Deployment) { d.Triggers = []wish.Trigger{{Attributes: map[string]string{"type": ""}}} }, "--on type=", actions.Invalid},
		{"expression", func(d *wish.Deployment) { d.Triggers = []wish.Trigger{{SQL: "type LIKE"}} }, "--on", actions.Invalid},
		{"its own answers", func(d *wish.Deployment) {
			d.Triggers = []wish.Trigger{{Attributes: map[string]string{"type": "dev.deepfn.prediction"}}}
		}, "its own answers", actions.Invalid},
		{"backoff", func(d *wish.Deployment) { d.Triggers, d.Delivery.Backoff = []wish.Trigger{{}}, "fibonacci" }, "--backoff: invalid value: fibonacci", actions.Invalid},
		{"retry", func(d *wish.Deployment) { d.Triggers, d.Delivery.Retry = []wish.Trigger{{}}, new(-1) }, "--retry: invalid value: -1", actions.Invalid},
		{"delay", func(d *wish.Deployment) { d.Triggers, d.Delivery.Delay = []wish.Trigger{{}}, -1 }, "--backoff-delay", actions.Invalid},
		{"dead letter", func(d *wish.Deployment) { d.Triggers, d.Delivery.DeadLetter = []wish.Trigger{{}}, "x" }, "--dead-letter x", actions.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := function()
			test.change(&d)
			out, err := knative.Manifest(t.Context(), d, "")
			if actions.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v (%s), want %s with %q\n%s", err, actions.CodeOf(err), test.code, test.want, out)
			}
		})
	}
}
