package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

// TestSequenceExample does what examples/sequence/README.md says.
func TestSequenceExample(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(top, "examples/sequence/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := whiskServer(t)
	text := strings.ReplaceAll(string(readme), "http://127.0.0.1:8080", p.base)
	dir := exampleFolder(t)
	bin := deepfnIn(t, dir)
	var curl, answer string
	for _, block := range regexp.MustCompile("(?s)```(sh|json)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		if block[1] == "json" {
			answer = block[2]
			continue
		}
		if strings.Contains(block[2], "curl") {
			curl = block[2]
			answer = ""
		}
		for line := range strings.Lines(block[2]) {
			if !strings.HasPrefix(line, "deepfn ") && !strings.HasPrefix(line, "echo ") || strings.HasPrefix(line, "deepfn serve") {
				continue
			}
			if strings.HasPrefix(line, "deepfn logs") {
				checkSequence(t, p, dir, curl, answer)
			}
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-ec", line)
			cmd.Dir = dir
			cmd.Env = append(environ(t), append(p.env, "PATH="+bin+":"+os.Getenv("PATH"))...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", line, err, out)
			}
			if strings.HasPrefix(line, "deepfn logs") && !strings.Contains(string(out), "stdout: 9 rows, 2 totals") {
				t.Errorf("%s: got %s", line, out)
			}
			if strings.HasPrefix(line, "deepfn undeploy") && strings.Count(string(out), "removed action") != 3 {
				t.Errorf("%s: got %s", line, out)
			}
		}
	}
	if curl == "" || answer == "" {
		t.Fatal("the README has no curl, or no answer")
	}
}

// checkSequence sends what the README sends with curl, and compares the answer.
func checkSequence(t *testing.T, p *process, dir, curl, answer string) {
	t.Helper()
	url := regexp.MustCompile(`'(http://[^']+)'`).FindStringSubmatch(curl)
	if url == nil || !strings.Contains(curl, "AUTH="+whisk.GuestAuth) {
		t.Fatalf("no URL or key in %s", curl)
	}
	image, err := os.ReadFile(filepath.Join(dir, "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	if want := p.base + "/api/v1/namespaces/_/actions/receipts?blocking=true&result=true"; url[1] != want {
		t.Errorf("the README's URL is %s, want %s", url[1], want)
	}
	r := p.invokeAction("receipts", string(image))
	var got, want any
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
	if err := json.Unmarshal([]byte(answer), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, the README says %s", r.body, answer)
	}
}

// exampleFolder is a copy of examples/sequence that may be written to.
func exampleFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"dates.py", "receipt.png"} {
		data, err := os.ReadFile(filepath.Join(top, "examples/sequence", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// deepfnIn puts a program deepfn into a folder, which it returns.
func deepfnIn(t *testing.T, dir string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "deepfn")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The function of the example has checks of its own.
func TestSequenceExampleFunction(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), current(t), "-m", "unittest", "discover", "-b", "-s", filepath.Join(top, "examples/sequence/tests"))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(`Ran [1-9]\d* tests`).Match(out) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestOpenWhiskDocument looks for each command and each flag that docs/openwhisk.md and the
// example name.
func TestOpenWhiskDocument(t *testing.T) {
	n := 0
	for _, doc := range []string{"docs/openwhisk.md", "examples/sequence/README.md"} {
		text, err := os.ReadFile(filepath.Join(top, doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile(`(?m)^(?:\$ )?deepfn (.*)$`).FindAllStringSubmatch(string(text), -1) {
			command, _, _ := strings.Cut(line[1], " #")
			n++
			root := newRoot(program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" }})
			found, rest, err := root.Find(strings.Fields(command))
			if err != nil || found == root {
				t.Errorf("%s: deepfn %s: there is no such command", doc, command)
			} else if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: deepfn %s: %v", doc, command, err)
			}
		}
		for _, row := range regexp.MustCompile("(?m)^\\| (`-.*?) \\|").FindAllStringSubmatch(string(text), -1) {
			flags := deployCommand(&settings{getenv: func(string) string { return "" }}).Flags()
			for _, name := range regexp.MustCompile("`(--?[a-z-]+)").FindAllStringSubmatch(row[1], -1) {
				n++
				long, isLong := strings.CutPrefix(name[1], "--")
				if (isLong && flags.Lookup(long) == nil) || (!isLong && flags.ShorthandLookup(strings.TrimPrefix(name[1], "-")) == nil) {
					t.Errorf("%s: there is no flag %s", doc, name[1])
				}
			}
		}
	}
	if n < 25 {
		t.Errorf("found %d commands and flags; the check would be empty", n)
	}
}
