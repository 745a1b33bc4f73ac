package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestKnativeDocs looks for each flag that docs/knative.md names.
func TestKnativeDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "docs/knative.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{getenv: os.Getenv, stderr: t.Output()}
	deploy, undeploy, status := deployKnativeCommand(s).Flags(), undeployKnativeCommand().Flags(), statusKnativeCommand().Flags()
	known := func(name string) bool {
		return deploy.Lookup(name) != nil || undeploy.Lookup(name) != nil || status.Lookup(name) != nil
	}
	named := regexp.MustCompile(`(?m)(?:^|[ \x60(])--([a-z][a-z-]*)`).FindAllStringSubmatch(string(text), -1)
	if len(named) < 30 {
		t.Fatalf("docs/knative.md names %d flags; the check would be empty", len(named))
	}
	for _, m := range named {
		if !known(m[1]) && m[1] != "type" { // of kubectl patch
			t.Errorf("docs/knative.md names --%s, which deploy, undeploy and status do not have", m[1])
		}
	}
	if known("replicas") {
		t.Error("the check finds what is not there")
	}
}

// TestNoKubernetes holds the program that runs models against linking a client of Kubernetes, whose
// packages initialise themselves in each worker that it starts.
func TestNoKubernetes(t *testing.T) {
	if found := kubernetesIn(t, "."); len(found) > 0 {
		t.Errorf("deepfn links %q", found)
	}
	if found := kubernetesIn(t, "../deepfn-relay"); len(found) > 0 {
		t.Errorf("deepfn-relay links %q", found)
	}
	if found := kubernetesIn(t, "../deepfn-knative"); len(found) == 0 {
		t.Error("deepfn-knative links no Kubernetes; the check would be empty")
	}
}

// kubernetesIn returns the packages of Kubernetes and Knative that a program links.
func kubernetesIn(t *testing.T, program string) (found []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", program).Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", program, err)
	}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		for _, module := range []string{"k8s.io/", "sigs.k8s.io/", "knative.dev/"} {
			if strings.HasPrefix(path, module) {
				found = append(found, path)
			}
		}
	}
	return found
}
