package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests in this file state the house. Each has a twin that plants a fault and
// sees the check fail.

const (
	module = "github.com/deepfn/deepfn/"
	top    = "../.." // from this folder
)

// mayImport lists who may import whom, beside what everyone may: actions. Only cmd
// imports everyone.
func mayImport() map[string][]string {
	return map[string][]string{
		"actions":                   {},
		"actions/archive":           {},
		"actions/disk":              {},
		"actions/jsonscan":          {},
		"actions/cloudevent":        {"actions/jsonscan"},
		"actions/many":              {"actions/jsonscan"},
		"actions/catalog":           {"actions/archive", "actions/disk"},
		"actions/whisk":             {},
		"proxy":                     {"actions/cloudevent", "actions/jsonscan", "actions/many", "actions/whisk"},
		"proxy/conformance":         {},
		"deploy":                    {"actions/whisk"},
		"runtime/store":             {"actions/whisk", "actions/disk"},
		"runtime/controller":        {"actions/jsonscan", "actions/whisk", "runtime/store"},
		"runtime/storage":           {},
		"runtime/storage/s3test":    {},
		"runtime/sink":              {"actions/cloudevent"},
		"runtime/rows":              {"actions/jsonscan"},
		"runtime/batch":             {"actions/cloudevent", "actions/jsonscan", "actions/many", "runtime/rows"},
		"deploy/knative":            {"actions/cloudevent", "deploy/knative/wish"},
		"deploy/knative/wish":       {},
		"runtime/invoker":           {},
		"runtime/invoker/tracetest": {},
		"runtime/onnx":              {"runtime/onnx/picture"},
		"runtime/onnx/picture":      {},
		"runtime/onnx/onnxtest":     {},
		"runtime/gpu":               {"actions/disk"},
		"runtime/gpu/gputest":       {},
		"runtime/worker":            {},
		"runtime/node":              {"runtime/worker"},
		"runtime/worker/launcher":   {"runtime/worker"},
		"runtime/worker/workertest": {"runtime/worker"},
		"runtime/worker/readahead":  {},
		"runtime/command":           {},
		"runtime/actionloop":        {"actions/jsonscan", "runtime/worker", "runtime/command"},
		"runtime/bridge":            {"runtime/worker", "runtime/command"},
		"runtime/jobs":              {},
		"runtime/telemetry":         {},
		"actions/environment":       {"actions/archive", "actions/disk"},
	}
}

// testsMayImport lists whom the tests of a package may import beside what it imports
// itself.
func testsMayImport() map[string][]string {
	return map[string][]string{
		"runtime/invoker":         {"runtime/invoker/tracetest"},
		"runtime/onnx":            {"actions/catalog", "runtime/onnx/onnxtest"},
		"runtime/onnx/picture":    {"runtime/onnx/onnxtest"},
		"runtime/gpu":             {"runtime/gpu/gputest"},
		"runtime/worker":          {"runtime/worker/workertest"},
		"runtime/actionloop":      {"runtime/worker"},
		"runtime/bridge":          {"runtime/worker"},
		"runtime/storage":         {"runtime/storage/s3test"},
		"runtime/batch":           {"runtime/storage", "runtime/storage/s3test"},
		"runtime/telemetry":       {"proxy"},
		"runtime/worker/launcher": {"actions/many"},
	}
}

// homes says which package may know an outside library. A library without a line is
// cmd's alone.
func homes() map[string][]string {
	return map[string][]string{
		"github.com/NVIDIA/go-nvml":             {"runtime/gpu"},
		"github.com/parquet-go/parquet-go":      {"runtime/rows"},
		"github.com/prometheus/client_golang":   {"proxy"},
		"github.com/prometheus/common":          {"proxy"},
		"github.com/apache/openwhisk-client-go": {"deploy"},
		"github.com/aws/aws-sdk-go-v2":          {"runtime/storage"},
		"cloud.google.com/go/storage":           {"runtime/storage"},
		"github.com/Azure/azure-sdk-for-go":     {"runtime/storage"},
		"google.golang.org/api":                 {"runtime/storage"},
		"github.com/spf13/pflag":                {"cmd/relay", "cmd/deepfn"},
		"github.com/valyala/fasthttp":           {"proxy"},
		"go.etcd.io/bbolt":                      {"runtime/store"},
		"gocloud.dev":                           {"runtime/storage"},
		"k8s.io":                                {"deploy/knative"},
		"knative.dev":                           {"deploy/knative"},
		"sigs.k8s.io/yaml":                      {"deploy/knative"},
		"github.com/yalue/onnxruntime_go":       {"runtime/onnx"},
		"go.opentelemetry.io/otel":              {"runtime/telemetry"},
		"go.opentelemetry.io/proto/otlp":        {"runtime/telemetry"},
		"google.golang.org/protobuf":            {"runtime/telemetry"},
		"go.yaml.in/yaml/v3":                    {"actions/catalog", "actions/environment"},
		"golang.org/x/image":                    {"runtime/onnx/picture", "runtime/onnx/onnxtest"},
		"golang.org/x/sys":                      {"runtime/node", "runtime/worker", "runtime/worker/workertest", "runtime/worker/launcher", "runtime/worker/readahead", "runtime/onnx", "runtime/actionloop", "runtime/bridge", "runtime/jobs", "actions/disk", "actions/environment", "proxy", "cmd/deepfn"},
	}
}

// requirements gives the reason for each direct requirement of go.mod.
func requirements() map[string]string {
	return map[string]string{
		"github.com/NVIDIA/go-nvml":                            "GPUs as their driver shows them: the binding of its authors, and its mock",
		"github.com/apache/openwhisk-client-go":                "deploying to OpenWhisk; drives the local API in tests",
		"cloud.google.com/go/storage":                          "Google's store for gocloud.dev: objects as they are stored, and an end of its tries",
		"github.com/Azure/azure-sdk-for-go/sdk/azcore":         "Azure's store for gocloud.dev: its errors, and blobs as they are stored",
		"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob": "Azure's store for gocloud.dev: the names of its blobs as they are",
		"google.golang.org/api":                                "Google's store for gocloud.dev: its errors",
		"github.com/aws/aws-sdk-go-v2":                         "S3 for gocloud.dev: an HTTP client of ours",
		"github.com/aws/aws-sdk-go-v2/config":                  "S3 for gocloud.dev: credentials and endpoints from the usual places",
		"github.com/aws/aws-sdk-go-v2/service/s3":              "S3 for gocloud.dev: path-style buckets",
		"github.com/cloudevents/sdk-go/v2":                     "tests and benchmarks compare with it",
		"github.com/google/go-cmp":                             "tests: differences that a person can read",
		"github.com/parquet-go/parquet-go":                     "batch inputs and outputs in columns; the release that checks more of hostile files",
		"github.com/prometheus/client_golang":                  "/metrics: the exposition format and Go's runtime metrics, from their authors",
		"github.com/prometheus/common":                         "/metrics in the text format that the request asks for",
		"github.com/rogpeppe/go-internal":                      "tests: testscript runs the command as its users do",
		"github.com/spf13/cobra":                               "the command line: subcommands, help, completion",
		"github.com/spf13/pflag":                               "cobra's flags, named where settings declare theirs",
		"github.com/valyala/fasthttp":                          "the HTTP server: half the CPU per request of net/http's",
		"github.com/yalue/onnxruntime_go":                      "ONNX Runtime's C API, loaded at run time from any path",
		"go.etcd.io/bbolt":                                     "the controller's entities and activations on disk",
		"gocloud.dev":                                          "objects of S3, and of other stores when they are wanted, through one door",
		"go.opentelemetry.io/otel":                             "spans: their attributes and the SDK's errors",
		"go.opentelemetry.io/otel/exporters/otlp/otlptrace":    "spans in the form of OTLP",
		"go.opentelemetry.io/otel/sdk":                         "spans: sampling, batches, and what is dropped",
		"go.opentelemetry.io/otel/trace":                       "spans: their contexts",
		"go.opentelemetry.io/proto/otlp":                       "spans in the form of OTLP, on the wire",
		"google.golang.org/protobuf":                           "spans in the form of OTLP, on the wire",
		"go.yaml.in/yaml/v3":                                   "action.yaml, with line numbers in its errors",
		"golang.org/x/image":                                   "WebP and TIFF decoders; fonts for the test pictures",
		"k8s.io/api":                                           "deploying to Knative: pods, as Kubernetes writes them",
		"k8s.io/apimachinery":                                  "deploying to Knative: quantities, kinds and the API server's errors",
		"k8s.io/client-go":                                     "deploying to Knative: kubeconfig and server-side apply; in deepfn-knative alone",
		"knative.dev/eventing":                                 "deploying to Knative: Broker, Trigger and SinkBinding with their own checks",
		"knative.dev/pkg":                                      "deploying to Knative: destinations, names of children, what its checks say",
		"knative.dev/serving":                                  "deploying to Knative: Service with its own defaults and checks",
		"sigs.k8s.io/yaml":                                     "deploying to Knative: objects as YAML in a fixed order",
		"golang.org/x/sys":                                     "memfd, seals and other system calls that package syscall lacks",
	}
}

type listedPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listedPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 6 {
		t.Fatalf("go list found %d packages; the check would be empty", len(packages))
	}
	for _, fault := range importFaults(packages) {
		t.Error(fault)
	}
}

func TestImportsSeesFaults(t *testing.T) {
	for _, test := range []struct{ name, from, to string }{
		{"sideways", "runtime/invoker", module + "runtime/worker"},
		{"upwards", "actions", module + "actions/catalog"},
		{"proxy knows the pool", "proxy", module + "runtime/invoker"},
		{"a new package", "runtime/helper", module + "actions"},
		{"a library that is another's", "runtime/invoker", "github.com/valyala/fasthttp"},
		{"a library that nobody has", "proxy", "github.com/gorilla/mux"},
	} {
		t.Run(test.name, func(t *testing.T) {
			faults := importFaults([]listedPackage{{ImportPath: module + test.from, Imports: []string{test.to}}})
			if len(faults) != 1 {
				t.Errorf("got %q, want one fault", faults)
			}
		})
	}
	tests := listedPackage{ImportPath: module + "proxy", XTestImports: []string{module + "runtime/invoker"}}
	if faults := importFaults([]listedPackage{tests}); len(faults) != 1 {
		t.Errorf("a test that imports a neighbour: got %q, want one fault", faults)
	}
}

// importFaults returns the imports that the house forbids.
func importFaults(packages []listedPackage) []string {
	var faults []string
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := mayImport()[from]
		isCmd := strings.HasPrefix(from, "cmd/") || from == "benchmarks"
		if !known && !isCmd {
			faults = append(faults, fmt.Sprintf("package %s is not in the plan of the house; say in mayImport whom it may import", from))
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			switch {
			case ours && (isCmd || to == "actions" || slices.Contains(allowed, to)):
			case ours:
				faults = append(faults, fmt.Sprintf("%s imports %s", from, to))
			case !strings.Contains(strings.Split(imported, "/")[0], "."): // the standard library
			case libraryFault(from, imported) != "":
				faults = append(faults, libraryFault(from, imported))
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			to, ours := strings.CutPrefix(imported, module)
			if ours && !isCmd && to != from && to != "actions" && !slices.Contains(allowed, to) && !slices.Contains(testsMayImport()[from], to) {
				faults = append(faults, fmt.Sprintf("the tests of %s import %s", from, to))
			}
		}
	}
	return faults
}

func libraryFault(from, imported string) string {
	for library, users := range homes() {
		if imported == library || strings.HasPrefix(imported, library+"/") {
			if !slices.Contains(users, from) {
				return fmt.Sprintf("%s imports %s, which only %s may know", from, imported, strings.Join(users, ", "))
			}
			return ""
		}
	}
	if from != "cmd/deepfn" {
		return fmt.Sprintf("%s imports %s, which has no home; say in homes who may know it", from, imported)
	}
	return ""
}

func TestRequires(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	for _, fault := range requireFaults(direct) {
		t.Error(fault)
	}
}

func TestRequiresSeesFaults(t *testing.T) {
	all := slices.Collect(func(yield func(string) bool) {
		for path := range requirements() {
			if !yield(path) {
				return
			}
		}
	})
	if faults := requireFaults(all); len(faults) != 0 {
		t.Fatalf("got %q, want none", faults)
	}
	if faults := requireFaults(append(all, "example.com/new")); len(faults) != 1 {
		t.Errorf("a new requirement: got %q, want one fault", faults)
	}
	if faults := requireFaults(all[1:]); len(faults) != 1 {
		t.Errorf("a reason that outlived its requirement: got %q, want one fault", faults)
	}
}

// requireFaults returns direct requirements without a reason, and reasons without a
// requirement.
func requireFaults(direct []string) []string {
	var faults []string
	for _, path := range direct {
		if requirements()[path] == "" {
			faults = append(faults, "go.mod requires "+path+"; give the reason in requirements")
		}
	}
	for path := range requirements() {
		if !slices.Contains(direct, path) {
			faults = append(faults, "requirements lists "+path+", which go.mod does not require")
		}
	}
	return faults
}

func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	declared := declarations(t)
	names := architectureNames(string(text))
	if len(names) < 20 {
		t.Fatalf("docs/architecture.md names %d functions and files; the check would be empty", len(names))
	}
	for _, fault := range nameFaults(names, declared) {
		t.Error(fault)
	}
}

func TestArchitectureSeesFaults(t *testing.T) {
	declared := map[string]bool{"invoker.New": true, "pool.acquire": true}
	text := "`invoker.New` calls `pool.acquire`, never `pool.gone`; see `runtime/nowhere.go` and `cmd/deepfn`. `make run` and `/run` are no names."
	faults := nameFaults(architectureNames(text), declared)
	if len(faults) != 2 {
		t.Errorf("got %q, want pool.gone and runtime/nowhere.go", faults)
	}
}

// architectureNames returns what the text puts into backticks and looks like
// package.Name, Type.method or a path of the tree.
func architectureNames(text string) []string {
	code := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	var names []string
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(code, -1) {
		name := m[1]
		isPath := regexp.MustCompile(`^(actions|runtime|proxy|cmd|deploy|benchmarks|examples|docs)/[\w./-]+$`).MatchString(name)
		isIdent := regexp.MustCompile(`^[A-Za-z]\w*\.[A-Za-z]\w*$`).MatchString(name) && !regexp.MustCompile(`\.(go|md|yaml|py|mod|json|png)$`).MatchString(name)
		if isPath || isIdent {
			names = append(names, name)
		}
	}
	return names
}

// nameFaults returns the names that are neither declared nor files of the tree.
func nameFaults(names []string, declared map[string]bool) []string {
	var faults []string
	for _, name := range names {
		if declared[name] {
			continue
		}
		if _, err := os.Stat(filepath.Join(top, name)); strings.Contains(name, "/") && err == nil {
			continue
		}
		faults = append(faults, fmt.Sprintf("docs/architecture.md names %s, which does not exist", name))
	}
	return faults
}

// declarations returns what the tree declares, as package.Name and Type.Name (of
// methods and fields).
func declarations(t *testing.T) map[string]bool {
	t.Helper()
	declared := map[string]bool{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			declare(declared, file.Name.Name, decl)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return declared
}

func declare(declared map[string]bool, pkg string, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		owner := pkg
		if d.Recv != nil {
			owner = receiver(d.Recv.List[0].Type)
		}
		declared[owner+"."+d.Name.Name] = true
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				declared[pkg+"."+s.Name.Name] = true
				declareMembers(declared, s)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					declared[pkg+"."+name.Name] = true
				}
			}
		}
	}
}

func declareMembers(declared map[string]bool, s *ast.TypeSpec) {
	var members *ast.FieldList
	switch typ := s.Type.(type) {
	case *ast.StructType:
		members = typ.Fields
	case *ast.InterfaceType:
		members = typ.Methods
	default:
		return
	}
	for _, m := range members.List {
		for _, name := range m.Names {
			declared[s.Name.Name+"."+name.Name] = true
		}
	}
}

func receiver(expr ast.Expr) string {
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if ident, ok := expr.(*ast.Ident); ok {
		return ident.Name
	}
	return ""
}
