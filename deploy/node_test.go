package deploy_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy"
)

var update = flag.Bool("update", false, "write the golden files")

func nodeDeployment() deploy.NodeDeployment {
	return deploy.NodeDeployment{
		Release: "1.2.3", Image: "registry.example.org/deepfn:1.2.3", RelayImage: "registry.example.org/deepfn-relay:1.2.3",
		Namespace: "models", Socket: "/run/deepfn/node.sock", GPUs: 2, Models: []string{"ocr-line", "digits"},
	}
}

// TestNodeManifests compares with testdata; go test ./deploy -update writes it anew.
func TestNodeManifests(t *testing.T) {
	for _, platform := range deploy.NodePlatforms() {
		t.Run(platform, func(t *testing.T) {
			got, err := nodeDeployment().Manifest(platform)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "node-"+platform+".golden")
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
		})
	}
}

// documents parses all documents of YAML.
func documents(t *testing.T, text []byte) (docs []map[string]any) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc map[string]any
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return docs
		} else if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		docs = append(docs, doc)
	}
}

func TestNodeManifestsAreYAML(t *testing.T) {
	hostile := nodeDeployment()
	hostile.Image, hostile.Namespace = "x: {y}\n- \"z", "# n"
	hostile.Socket = "/run/a: b/'c\".sock"
	for _, d := range []deploy.NodeDeployment{nodeDeployment(), hostile} {
		for _, gpus := range []int{0, 1} {
			d.GPUs = gpus
			set, err := d.Manifest(deploy.Kubernetes)
			if err != nil {
				t.Fatal(err)
			}
			docs := documents(t, set)
			if len(docs) != 1 || docs[0]["kind"] != "DaemonSet" {
				t.Fatalf("got %d documents, want one DaemonSet", len(docs))
			}
			pod := at(t, docs[0], "spec", "template", "spec")
			node := pod["containers"].([]any)[0].(map[string]any)
			if node["image"] != d.Image {
				t.Errorf("got the image %q, want %q", node["image"], d.Image)
			}
			if _, limited := node["resources"]; limited != (gpus > 0) {
				t.Errorf("with %d GPUs there are resources: %v", gpus, limited)
			}
			services, err := d.Manifest(deploy.Knative)
			if err != nil {
				t.Fatal(err)
			}
			docs = documents(t, services)
			if len(docs) != 2 {
				t.Fatalf("got %d documents, want a Service of each model", len(docs))
			}
			for i, doc := range docs {
				if name := at(t, doc, "metadata")["name"]; doc["kind"] != "Service" || name != d.Models[i] {
					t.Errorf("got %v %v, want Service %s", doc["kind"], name, d.Models[i])
				}
			}
		}
	}
}

// at walks down a document.
func at(t *testing.T, doc map[string]any, names ...string) map[string]any {
	t.Helper()
	for _, name := range names {
		next, ok := doc[name].(map[string]any)
		if !ok {
			t.Fatalf("there is no %s in %v", name, doc)
		}
		doc = next
	}
	return doc
}

func TestNodeManifestRefuses(t *testing.T) {
	for _, test := range []struct {
		name, platform string
		change         func(*deploy.NodeDeployment)
		text           string
	}{
		{"another platform", "nomad", func(*deploy.NodeDeployment) {}, "nomad"},
		{"a path that is not absolute", deploy.Kubernetes, func(d *deploy.NodeDeployment) { d.Socket = "node.sock" }, "absolute"},
		{"the root", deploy.Kubernetes, func(d *deploy.NodeDeployment) { d.Socket = "/node.sock" }, "a folder of its own"},
		{"no models", deploy.Knative, func(d *deploy.NodeDeployment) { d.Models = nil }, "name the models"},
		{"fewer than no GPUs", deploy.Kubernetes, func(d *deploy.NodeDeployment) { d.GPUs = -1 }, "GPUs"},
	} {
		d := nodeDeployment()
		test.change(&d)
		_, err := d.Manifest(test.platform)
		if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want Invalid with %q", test.name, err, test.text)
		}
	}
}
