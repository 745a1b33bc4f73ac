package onnx

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "cache")
	c := setup(t, shipped(t, "text-angle"), nil)
	c.CacheDir = dir
	req := imageRequest(encode(t, onnxtest.DrawLine("a line to look at", onnxtest.Regular, 32)))
	var answers []string
	again := func(want string) {
		t.Helper()
		p, info := start(t, c)
		if info.Cache != want {
			t.Errorf("got the cache %q, want %q", info.Cache, want)
		}
		r, err := p.Call(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, string(r.Data))
	}
	only := func() string {
		t.Helper()
		found, err := filepath.Glob(dir + "/*")
		if err != nil || len(found) != 1 {
			t.Fatalf("got %q and %v, want one file", found, err)
		}
		return found[0]
	}
	again(cacheMiss)
	path := only()
	again(cacheHit)

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(data)
	damaged[len(damaged)/2] ^= 1
	for _, wrong := range [][]byte{damaged, data[:len(data)/2], nil} {
		if err := os.WriteFile(path, wrong, 0o600); err != nil {
			t.Fatal(err)
		}
		again(cacheMiss)
		again(cacheHit)
		path = only()
	}

	c.Threads = 2 // another key
	again(cacheMiss)
	c.SHA256 = nil // a model that is not known
	again(cacheOff)
	for _, a := range answers {
		if a != answers[0] {
			t.Errorf("got %s from one start and %s from another", a, answers[0])
		}
	}
}

func TestCacheThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := tiny(t, addition(), "")
	c.CacheDir, c.SHA256 = file, map[string]string{"model": "1"}
	if _, info := start(t, c); !strings.HasPrefix(info.Cache, "unusable: ") {
		t.Errorf("got the cache %q, want it to be unusable", info.Cache)
	}
}

// folder is a cache's folder in a test.
type folder struct {
	*testing.T
	dir string
	now time.Time
}

// file makes a file that was used some time ago.
func (f folder) file(name string, ago time.Duration) {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.Chtimes(path, f.now, f.now.Add(-ago)); err != nil {
		f.Fatal(err)
	}
}

// holds compares the names of the files.
func (f folder) holds(want ...string) {
	f.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		f.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("-want +got\n%s", diff)
	}
}

func TestCacheIsTidied(t *testing.T) {
	f := folder{t, t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	c := cache{f.dir, "aa", "k9"}
	const day = 24 * time.Hour
	f.file("aa-k9-1.onnx", 29*day)
	f.file("aa-k9-2.onnx", 0)
	for i, k := range []string{"k1", "k2", "k3", "k4", "k5"} {
		f.file("aa-"+k+"-1.onnx", time.Duration(i)*day)
	}
	f.file("bb-k1-1.onnx", 29*day)
	f.file("bb-k2-1.onnx", 31*day)
	f.file("aa-k9-1.tmp", 59*time.Minute)
	f.file("aa-k9-2.tmp", 61*time.Minute)
	f.file("bb-k9-2.tmp", 61*time.Minute)
	f.file("notes.onnx", 99*day)
	f.file("old-notes-1.txt", 99*day)
	c.tidy(f.now)
	f.holds("aa-k1-1.onnx", "aa-k2-1.onnx", "aa-k3-1.onnx", "aa-k9-1.onnx", "aa-k9-1.tmp",
		"bb-k1-1.onnx", "notes.onnx", "old-notes-1.txt")
}

// TestCacheOfTwoProcesses lets two optimise one model at once, with the two ends in
// either order.
func TestCacheOfTwoProcesses(t *testing.T) {
	for _, order := range [][]string{{"one", "two"}, {"two", "one"}} {
		c := newCache(t.TempDir(), "1", "1.27.0", "")
		var temps []string
		for _, content := range order {
			temp, err := c.temp()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			temps = append(temps, temp)
		}
		for _, temp := range temps {
			if said := c.keep(temp); said != cacheMiss {
				t.Errorf("got %q, want both to be kept", said)
			}
		}
		path, ok := c.find()
		if !ok {
			t.Fatal("got nothing, want one of the two")
		}
		folder{t, c.dir, time.Time{}}.holds(filepath.Base(path))
	}
}

// TestCacheNotesUse makes a file old and uses it, beside one of a start that was killed.
func TestCacheNotesUse(t *testing.T) {
	f := folder{t, t.TempDir(), time.Now()}
	c := newCache(f.dir, "1", "1.27.0", "")
	temp, err := c.temp()
	if err != nil {
		t.Fatal(err)
	}
	c.keep(temp)
	path, _ := c.find()
	if err := os.Chtimes(path, f.now, f.now.Add(-1000*time.Hour)); err != nil {
		t.Fatal(err)
	}
	f.file(c.prefix()+"1.tmp", 1000*time.Hour)
	if _, ok := c.find(); !ok {
		t.Fatal("got nothing, want the file")
	}
	f.holds(filepath.Base(path))
}
