package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxSize is how large the program may be, which is nearly all of its image.
const maxSize = 25 << 20

// TestProgram builds the program as its image does, and looks at what has become of it.
func TestProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deepfn-relay")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() >= maxSize {
		t.Errorf("got %d bytes, want fewer than %d", info.Size(), maxSize)
	}
	for _, fault := range linkFaults(t, path) {
		t.Error(fault)
	}
	out, err := exec.CommandContext(t.Context(), path, "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "deepfn-relay ") {
		t.Errorf("--version: got %q, %v", out, err)
	}
}

// TestProgramSeesFaults looks at a program that is not static.
func TestProgramSeesFaults(t *testing.T) {
	if faults := linkFaults(t, "/bin/sh"); len(faults) == 0 {
		t.Error("got no faults of /bin/sh, which needs the system's libraries")
	}
}

// linkFaults says what a program needs beside itself.
func linkFaults(t *testing.T, path string) (faults []string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			faults = append(faults, "the program wants a dynamic linker")
		}
	}
	libraries, _ := f.ImportedLibraries() // an error when there can be none
	for _, library := range libraries {
		faults = append(faults, "the program wants the library "+library)
	}
	return faults
}

// foreign are beginnings of packages that a relay has no business with.
func foreign() []string {
	return []string{
		"k8s.io/", "sigs.k8s.io/", "knative.dev/", "github.com/aws/", "gocloud.dev", "go.etcd.io/", "google.golang.org/grpc",
		"runtime/cgo", "github.com/NVIDIA/", "github.com/yalue/", "github.com/apache/", "github.com/spf13/cobra", "go.yaml.in/yaml/v3",
		"github.com/deepfn/deepfn/actions/catalog", "github.com/deepfn/deepfn/actions/environment", "github.com/deepfn/deepfn/deploy",
		"github.com/deepfn/deepfn/runtime/invoker", "github.com/deepfn/deepfn/runtime/store", "github.com/deepfn/deepfn/runtime/storage",
		"github.com/deepfn/deepfn/runtime/onnx", "github.com/deepfn/deepfn/runtime/gpu", "github.com/deepfn/deepfn/runtime/jobs",
	}
}

func TestDependencies(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "github.com/deepfn/deepfn/runtime/node") {
		t.Fatalf("got %d packages without runtime/node; the check would be empty", len(packages))
	}
	for _, fault := range dependencyFaults(packages) {
		t.Error(fault)
	}
}

func TestDependenciesSeesFaults(t *testing.T) {
	packages := []string{"fmt", "k8s.io/client-go/rest", "github.com/deepfn/deepfn/runtime/node", "github.com/aws/aws-sdk-go-v2"}
	if faults := dependencyFaults(packages); len(faults) != 2 {
		t.Errorf("got %q, want two faults", faults)
	}
}

func dependencyFaults(packages []string) (faults []string) {
	for _, p := range packages {
		for _, f := range foreign() {
			if strings.HasPrefix(p, f) {
				faults = append(faults, fmt.Sprintf("the relay links %s", p))
			}
		}
	}
	return faults
}
