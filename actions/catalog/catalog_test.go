package catalog

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// write puts a file into dir, with the folders that it needs, and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// minimal is an action.yaml of a model without files.
func minimal(title string) string { return "runtime: onnx\ntitle: " + title + "\n" }

// TestModels shows the order, who hides whom, and that a broken action is left out and
// logged once.
func TestModels(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	write(t, first, "cats/action.yaml", minimal("first"))
	write(t, second, "cats/action.yaml", minimal("second"))
	write(t, second, "ants/action.yaml", minimal("second"))
	write(t, second, "broken/action.yaml", "model: x\n")
	write(t, second, "renamed/action.yaml", "name: other\nruntime: onnx\n")
	write(t, second, "no-action/readme.md", "")
	write(t, second, "a-file", "")
	shipped := fstest.MapFS{
		"cats/action.yaml":  {Data: []byte(minimal("shipped"))},
		"zebra/action.yaml": {Data: []byte(minimal("shipped"))},
	}
	var log bytes.Buffer
	c := New(Config{
		Shipped: shipped, Dirs: []string{first, second, filepath.Join(first, "missing")},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	for range 2 {
		models, err := c.Models(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range models {
			got = append(got, m.Name+" "+m.Title+" "+m.Dir)
		}
		want := []string{"ants second " + filepath.Join(second, "ants"), "cats first " + filepath.Join(first, "cats"), "zebra shipped "}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for _, where := range []string{"broken", "renamed", filepath.Join(first, "missing")} {
		if got := strings.Count(log.String(), "msg=\"action is broken\" action="+where+" "); got != 1 {
			t.Errorf("got %d lines about %s, want one:\n%s", got, where, &log)
		}
	}
}

// TestModel shows what a name finds and what it does not.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "cats/action.yaml", minimal("Cats"))
	write(t, dir, "broken/action.yaml", "runtime: onnx\ntitle: [\n")
	write(t, dir, "invalid/action.yaml", "runtime: onnx\narguments: [{name: a, type: flaot}]\n")
	write(t, dir, "renamed/action.yaml", "name: other\nruntime: onnx\n")
	write(t, dir, "a-file", "")
	write(t, filepath.Dir(dir), "outside/action.yaml", minimal("Outside"))
	if err := syscall.Mkfifo(filepath.Join(dir, "action.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "pipe/x", "")
	if err := os.Symlink(filepath.Join(dir, "action.yaml"), filepath.Join(dir, "pipe/action.yaml")); err != nil {
		t.Fatal(err)
	}
	c := New(Config{Dirs: []string{dir}})
	if m, err := c.Model(t.Context(), "cats"); err != nil || m.Title != "Cats" || m.Dir != filepath.Join(dir, "cats") {
		t.Errorf("got %+v, %v, want the model", m, err)
	}
	tests := map[string]struct {
		code actions.Code
		want string
	}{
		"dogs":                     {actions.NotFound, `there is no model "dogs"; there are: broken, cats, invalid, pipe, renamed`},
		"a-file":                   {actions.NotFound, `there is no model "a-file"`},
		"":                         {actions.NotFound, "not a name that a model can have"},
		"..":                       {actions.NotFound, "not a name that a model can have"},
		"../outside":               {actions.NotFound, "not a name that a model can have"},
		filepath.Join(dir, "cats"): {actions.NotFound, "not a name that a model can have"},
		"./cats":                   {actions.NotFound, "not a name that a model can have"},
		"Cats":                     {actions.NotFound, "not a name that a model can have"},
		strings.Repeat("a", 5000):  {actions.NotFound, "not a name that a model can have"},
		"broken":                   {actions.Invalid, filepath.Join(dir, "broken/action.yaml") + ":"},
		"invalid":                  {actions.Invalid, `argument a: type "flaot"`},
		"renamed":                  {actions.Invalid, "name other must be that of the folder, renamed"},
		"pipe":                     {actions.Invalid, "is not a file"},
	}
	for name, tt := range tests {
		_, err := c.Model(t.Context(), name)
		if actions.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 500 {
			t.Errorf("%.40s: got %s %v, want %s with %q", name, actions.CodeOf(err), err, tt.code, tt.want)
		}
	}
	if _, err := New(Config{}).Model(t.Context(), "cats"); !strings.Contains(err.Error(), "there are none") {
		t.Errorf("got %v, want that there are none", err)
	}
}

// TestOpen shows what may stand on a command line.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := write(t, dir, "my-model/action.yaml", minimal("Mine"))
	write(t, dir, "my-model/other.yaml", "name: other-name\nruntime: onnx\n")
	write(t, dir, "named/action.yaml", "name: whatever\nruntime: onnx\n")
	write(t, dir, "catalog/cats/action.yaml", minimal("Cats"))
	write(t, dir, "empty/x", "")
	c := New(Config{Dirs: []string{"catalog"}})
	for in, want := range map[string]string{
		"cats": "cats", "./my-model": "my-model", "my-model/": "my-model", "./my-model/action.yaml": "my-model",
		file: "my-model", "my-model/other.yaml": "other-name", "./named": "whatever", "catalog/cats": "cats",
	} {
		m, err := c.Open(t.Context(), in)
		if err != nil || m.Name != want || !filepath.IsAbs(m.Dir) {
			t.Errorf("%s: got %+v, %v, want %s", in, m, err, want)
		}
	}
	for in, want := range map[string]string{
		"my-model":   `there is no model "my-model"; there are: cats; for the folder write ./my-model`,
		"./missing":  "no such file or directory",
		"./empty":    "an action is a folder with a file action.yaml",
		"dogs":       `there is no model "dogs"`,
		"dogs.yaml":  "no such file or directory",
		"../" + "..": "an action is a folder with a file action.yaml",
	} {
		_, err := c.Open(t.Context(), in)
		if actions.CodeOf(err) != actions.NotFound || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want NotFound with %q", in, err, want)
		}
	}
	t.Chdir("my-model")
	for _, in := range []string{".", "action.yaml"} {
		if m, err := c.Open(t.Context(), in); err != nil || m.Name != "my-model" || m.Dir != filepath.Join(dir, "my-model") {
			t.Errorf("%s: got %+v, %v, want my-model", in, m, err)
		}
	}
}

// TestModelChanges shows that an edited action.yaml is read again, and one that was
// not is not.
func TestModelChanges(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "cats/action.yaml", minimal("One"))
	c := New(Config{Dirs: []string{dir}})
	title := func() string {
		t.Helper()
		m, err := c.Model(t.Context(), "cats")
		if err != nil {
			return string(actions.CodeOf(err))
		}
		return m.Title
	}
	if got := title(); got != "One" {
		t.Errorf("got %s, want One", got)
	}
	for _, want := range []string{"Two", "Three"} {
		write(t, dir, "cats/action.yaml", minimal(want))
		later := time.Now().Add(time.Duration(len(want)) * time.Second)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
		if got := title(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := title(); got != string(actions.NotFound) {
		t.Errorf("got %s, want not_found", got)
	}
}

// TestModelCanceled shows that an ended context has its code.
func TestModelCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := New(Config{Shipped: fstest.MapFS{"a/action.yaml": {Data: []byte(minimal("A"))}}})
	_, err := c.Models(ctx)
	_, err2 := c.Model(ctx, "a")
	for _, err := range []error{err, err2} {
		if actions.CodeOf(err) != actions.Canceled || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
	}
}

// BenchmarkModel looks a model up, as each request does.
func BenchmarkModel(b *testing.B) {
	dir := b.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "cats"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cats/action.yaml"), []byte(good), 0o644); err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]*Catalog{
		"dir":     New(Config{Dirs: []string{dir}}),
		"shipped": New(Config{Shipped: fs.FS(fstest.MapFS{"cats/action.yaml": {Data: []byte(good)}})}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Model(b.Context(), "cats"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
