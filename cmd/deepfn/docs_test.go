package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedActions opens the actions that the documents show, with hashes where they
// have an ellipsis.
func TestDocumentedActions(t *testing.T) {
	for _, doc := range []string{"README.md", "docs/action.md"} {
		t.Run(doc, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(top, doc))
			if err != nil {
				t.Fatal(err)
			}
			var action strings.Builder
			for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
				// docs/action.md shows the section onnx in a block of its own.
				action.WriteString(strings.Replace(block[1], "onnx: {…}\n", "", 1))
			}
			dir := filepath.Join(t.TempDir(), "cats")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			complete := strings.NewReplacer("sha256: …", "sha256: "+strings.Repeat("0", 64), "…", "x").Replace(action.String())
			if err := os.WriteFile(filepath.Join(dir, "action.yaml"), []byte(complete), 0o600); err != nil {
				t.Fatal(err)
			}
			getenv := func(name string) string { return map[string]string{"DEEPFN_CACHE": dir}[name] }
			var stderr bytes.Buffer
			code := run(t.Context(), program{
				args: []string{"models", "show", dir}, stdin: strings.NewReader(""), stdout: io.Discard, stderr: &stderr, getenv: getenv,
			})
			if code != exitOK {
				t.Errorf("the action of %s: exit code %d: %s\n%s", doc, code, stderr.String(), complete)
			}
		})
	}
}
