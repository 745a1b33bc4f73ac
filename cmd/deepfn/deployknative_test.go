package main

import (
	"os/exec"
	"strings"
	"testing"
)

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
