package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedActions opens the actions that the documents show, with hashes where they
// have an ellipsis.
func TestDocumentedActions(t *testing.T) {
	for doc, want := range map[string]int{"README.md": 1, "docs/action.md": 4} {
		text, err := os.ReadFile(filepath.Join(top, doc))
		if err != nil {
			t.Fatal(err)
		}
		actions := documentedActions(string(text))
		if len(actions) != want {
			t.Errorf("%s: found %d actions, want %d", doc, len(actions), want)
		}
		for _, action := range actions {
			name := regexp.MustCompile(`runtime: (\w+)`).FindString(action)
			t.Run(doc+"/"+strings.TrimPrefix(name, "runtime: "), func(t *testing.T) { showAction(t, action) })
		}
	}
}

// documentedActions returns the actions of a document: each begins with a block that says
// a runtime; a block without one is more of the action before it.
func documentedActions(text string) []string {
	var found []string
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
		// docs/action.md shows the section onnx in a block of its own.
		action := strings.Replace(block[1], "onnx: {…}\n", "", 1)
		if regexp.MustCompile(`(?m)^runtime:`).MatchString(action) {
			found = append(found, action)
		} else {
			found[len(found)-1] += action
		}
	}
	return found
}

func showAction(t *testing.T, action string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cats")
	complete := strings.NewReplacer("sha256: …", "sha256: "+strings.Repeat("0", 64), "…", "x").Replace(action)
	for name, text := range map[string]string{"action.yaml": complete, "api.py": "", "exec": "#!/bin/sh\n"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	getenv := func(name string) string {
		return map[string]string{"DEEPFN_CACHE": dir, "DEEPFN_DATA": dir}[name]
	}
	var stderr bytes.Buffer
	code := run(t.Context(), program{
		args: []string{"models", "show", dir}, stdin: strings.NewReader(""), stdout: io.Discard, stderr: &stderr, getenv: getenv,
	})
	if code != exitOK {
		t.Errorf("exit code %d: %s\n%s", code, stderr.String(), complete)
	}
}

// TestModulesTable looks for each test that docs/modules.md names.
func TestModulesTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "docs/modules.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := testNames(t)
	named := regexp.MustCompile("`(test_\\w+\\.test_\\w+|Test[A-Z]\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 30 {
		t.Fatalf("docs/modules.md names %d tests; the check would be empty", len(named))
	}
	for _, m := range named {
		if !slices.Contains(there, m[1]) && m[1] != "TestModel" { // a class of the package deepaas
			t.Errorf("docs/modules.md names %s, which is no test", m[1])
		}
	}
	if slices.Contains(there, "test_load.test_nothing_of_the_kind") {
		t.Error("the check finds what is not there")
	}
}

// testNames returns the tests of the tree: those of Go by name, those of Python by file
// and name.
func testNames(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		isGo := strings.HasSuffix(path, "_test.go")
		if err != nil || d.IsDir() || !isGo && !strings.HasPrefix(d.Name(), "test_") {
			if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != top {
				return fs.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:func|def) ([Tt]est\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			name := m[1]
			if !isGo {
				name = strings.TrimSuffix(d.Name(), ".py") + "." + name
			}
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
