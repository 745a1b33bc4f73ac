package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// newFolder makes a storage of a temporary folder, and the URL of that.
func newFolder(t *testing.T) (*Storage, string, string) {
	t.Helper()
	dir := t.TempDir()
	return newStorage(t, Config{Allow: []string{"file://" + dir + "/"}}), dir, "file://" + dir + "/"
}

// listed are the URLs below a prefix, without it.
func listed(t *testing.T, s *Storage, prefix string) []string {
	t.Helper()
	names := []string{}
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(o.URL, prefix))
	}
	return names
}

func put(t *testing.T, s *Storage, url, text string, opts actions.PutOptions) error {
	t.Helper()
	return s.Put(t.Context(), url, strings.NewReader(text), int64(len(text)), opts)
}

func read(t *testing.T, s *Storage, url string, offset, length int64) string {
	t.Helper()
	r, err := s.Open(t.Context(), url, offset, length)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return string(data)
}

// TestFolderWays goes through all that a folder can do.
func TestFolderWays(t *testing.T) {
	s, dir, url := newFolder(t)
	ways(t, s, url)
	var b bytes.Buffer
	f, err := s.Fetch(t.Context(), url+"a/text.txt", &b)
	if err != nil || b.String() != "0123456789" || f.Filename != "text.txt" || !strings.HasPrefix(f.ContentType, "text/plain") {
		t.Errorf("got %q, %+v, %v", b.String(), f, err)
	}
	if err := s.Store(t.Context(), url+"stored", actions.File{Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "stored")); err != nil || string(data) != "x" {
		t.Errorf("got %q, %v", data, err)
	}
}

// ways wants the same of each store. It leaves a/text.txt below the prefix.
func ways(t *testing.T, s *Storage, prefix string) {
	t.Helper()
	if got := listed(t, s, prefix+"none/"); len(got) != 0 {
		t.Errorf("nothing below: got %q", got)
	}
	_, err := s.Stat(t.Context(), prefix+"none")
	wantError(t, err, actions.NotFound, "no such")
	_, err = s.Open(t.Context(), prefix+"none", 0, -1)
	wantError(t, err, actions.NotFound, "no such")
	wantError(t, s.Copy(t.Context(), prefix+"none", prefix+"copy"), actions.NotFound, "no such")
	if err := s.Remove(t.Context(), prefix+"none"); err != nil {
		t.Errorf("removing what is not there: got %v", err)
	}
	if err := put(t, s, prefix+"a/text.txt", "old and longer", actions.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := s.Stat(t.Context(), prefix+"a/text.txt")
	if err != nil || before.Size != 14 || before.URL != prefix+"a/text.txt" || time.Since(before.Modified) > time.Hour {
		t.Errorf("got %+v, %v", before, err)
	}
	if err := put(t, s, prefix+"a/text.txt", "0123456789", actions.PutOptions{ContentType: "text/plain"}); err != nil {
		t.Fatal(err)
	}
	after, err := s.Stat(t.Context(), prefix+"a/text.txt")
	if err != nil || after.Size != 10 || after.ETag == before.ETag || after.ETag == "" || !strings.HasPrefix(after.ContentType, "text/plain") {
		t.Errorf("got %+v after %+v, %v", after, before, err)
	}
	ranges(t, s, prefix+"a/text.txt")

	wantError(t, put(t, s, prefix+"a/text.txt", "another", actions.PutOptions{Once: true}), actions.Conflict, "already")
	if got := read(t, s, prefix+"a/text.txt", 0, -1); got != "0123456789" {
		t.Errorf("after a conflict: got %q", got)
	}
	if err := put(t, s, prefix+"once", "", actions.PutOptions{Once: true}); err != nil {
		t.Errorf("once: got %v", err)
	}
	lengths(t, s, prefix)
	if err := s.Copy(t.Context(), prefix+"a/text.txt", prefix+"once"); err != nil || read(t, s, prefix+"once", 0, -1) != "0123456789" {
		t.Errorf("copy: got %v", err)
	}
	if err := s.Remove(t.Context(), prefix+"once"); err != nil {
		t.Error(err)
	}
	if got := listed(t, s, prefix); !slices.Equal(got, []string{"a/text.txt"}) {
		t.Errorf("at the end: got %q", got)
	}
}

// lengths wants nothing to be stored of what has another length than was said.
func lengths(t *testing.T, s *Storage, prefix string) {
	t.Helper()
	for _, size := range []int64{0, 4, 6, 10 << 20} {
		err := s.Put(t.Context(), prefix+"length", strings.NewReader("12345"), size, actions.PutOptions{})
		wantError(t, err, actions.Internal, "another length")
	}
	err := s.Put(t.Context(), prefix+"length", &brokenSource{strings.NewReader("12345")}, 10, actions.PutOptions{})
	wantError(t, err, actions.Internal, "no space")
	if _, err := s.Stat(t.Context(), prefix+"length"); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("a wrong length: got %v, want nothing", err)
	}
}

type brokenSource struct{ *strings.Reader }

func (b *brokenSource) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err == nil {
		return n, nil
	}
	return 0, errNoSpace
}

// ranges reads parts of "0123456789".
func ranges(t *testing.T, s *Storage, url string) {
	t.Helper()
	for _, tt := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"},
		{3, -1, "3456789"},
		{3, 4, "3456"},
		{0, 1, "0"},
		{9, 5, "9"},
		{4, 0, ""},
		{10, -1, ""},
		{10, 5, ""},
		{1000, 1, ""},
		{1000, 0, ""},
		{0, 100, "0123456789"},
	} {
		if got := read(t, s, url, tt.offset, tt.length); got != tt.want {
			t.Errorf("%s from %d, %d bytes: got %q, want %q", url, tt.offset, tt.length, got, tt.want)
		}
	}
	_, err := s.Open(t.Context(), url, -1, 1)
	wantError(t, err, actions.Invalid, "no byte -1")
}

// TestFolderOrder shows that a list is in the order of the bytes of whole keys, and what it
// leaves out.
func TestFolderOrder(t *testing.T) {
	s, dir, url := newFolder(t)
	want := []string{".hidden", "a-b", "a.b", "a/b", "a/b.c/d", "a/b/c", "a0", "%C3%A4", "z"}
	for _, name := range []string{"a0", "z", "a/b.c/d", "a-b", "ä", "a.b", ".hidden"} {
		if err := put(t, s, url+name, name, actions.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "a", temporary+"x"), nil, 0o600),
		os.WriteFile(outside, []byte("secret"), 0o600),
		os.Symlink(outside, filepath.Join(dir, "link-out")),
		os.Symlink("../a", filepath.Join(dir, "a", "link-to-folder")),
		os.Symlink("nowhere", filepath.Join(dir, "broken-link")),
		os.MkdirAll(filepath.Join(dir, "empty/folder"), 0o700),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want = slices.DeleteFunc(want, func(name string) bool { return name == "a/b" || name == "a/b/c" })
	sorted := slices.Sorted(slices.Values([]string{"a0", "z", "a/b.c/d", "a-b", "ä", "a.b", ".hidden"}))
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(unescaped(a), unescaped(b)) })
	if len(sorted) != len(want) {
		t.Fatal("the test is wrong")
	}
	if diff := cmp.Diff(want, listed(t, s, url)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b.c/d"}, listed(t, s, url+"a/")); diff != "" {
		t.Errorf("a/ (-want +got):\n%s", diff)
	}
	for range s.List(t.Context(), url) {
		break // which is no harm
	}
}

func unescaped(name string) string { return strings.ReplaceAll(name, "%C3%A4", "ä") }

// TestFolderBorders shows what is not reached through a folder.
func TestFolderBorders(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.Symlink(secret, filepath.Join(dir, "link")),
		os.Symlink(filepath.Dir(secret), filepath.Join(dir, "up")),
		os.Symlink("../../../../../../../../../../../../etc", filepath.Join(dir, "etc")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.WriteFile(filepath.Join(dir, "file"), []byte("inside"), 0o600),
		os.Symlink("file", filepath.Join(dir, "inside")),
		os.Mkdir(filepath.Join(dir, "folder"), 0o700),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		syscall.Mkfifo(filepath.Join(dir, "folder", "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := newStorage(t, Config{Allow: []string{"file://" + dir, "file:///absent/folder/"}})
	url := "file://" + dir + "/"
	for _, tt := range []struct {
		url  string
		code actions.Code
		says string
	}{
		{url + "link", actions.Forbidden, "leads out"},
		{url + "up/secret", actions.Forbidden, "leads out"},
		{url + "etc/passwd", actions.Forbidden, "leads out"},
		{url + "loop", actions.Forbidden, "leads out"},
		{url + "pipe", actions.Invalid, "no regular file"},
		{url + "folder/pipe", actions.Invalid, "no regular file"},
		{url + "folder", actions.Invalid, "no regular file"},
		{url + "folder/", actions.Invalid, "but a folder"},
		{"file://" + dir, actions.Invalid, "no regular file"},
		{url + "file/below", actions.Invalid, "a file where a folder"},
		{url + "none", actions.NotFound, "no such file"},
		{url + strings.Repeat("a", 300), actions.Invalid, "too long"},
		{url + temporary + "x", actions.Invalid, "is being written"},
		{url + "a//b", actions.Invalid, "empty segments"},
		{url + "%00", actions.Invalid, "no UTF-8"},
		{url + "a?b", actions.Invalid, "query"},
		{url + "../secret", actions.Invalid, "dot segments"},
		{"file://" + secret, actions.Forbidden, "--allow-url file:///FOLDER/"},
		{"file:///absent/folder/file", actions.NotFound, "no such file"},
		{"file:///absent/file", actions.Forbidden, "--allow-url"},
	} {
		_, err := s.Open(t.Context(), tt.url, 0, -1)
		wantError(t, err, tt.code, tt.says)
		_, err = s.Stat(t.Context(), tt.url)
		wantError(t, err, tt.code, tt.says)
		_, err = s.Fetch(t.Context(), tt.url, io.Discard)
		wantError(t, err, tt.code, tt.says)
	}
	if got := read(t, s, url+"inside", 0, -1); got != "inside" {
		t.Errorf("a link inside of the folder: got %q", got)
	}
	for _, name := range []string{"up/new", "folder", "file/new"} {
		if err := put(t, s, url+name, "x", actions.PutOptions{}); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if err := put(t, s, url+name, "x", actions.PutOptions{Once: true}); err == nil {
			t.Errorf("%s once: got no error", name)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(entries) != 1 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
	for _, err := range s.List(t.Context(), "file:///absent/folder/") {
		wantError(t, err, actions.NotFound, "no such")
	}
	for _, err := range s.List(t.Context(), url+"folder") {
		wantError(t, err, actions.Invalid, "end in a slash")
	}
}

// TestFolderOnce has many writers, of whom one wins.
func TestFolderOnce(t *testing.T) {
	s, _, url := newFolder(t)
	race(t, s, url)
	if got := listed(t, s, url); len(got) != 10 {
		t.Errorf("got %q, want no temporary files", got)
	}
}

// race has 32 writers for each of 10 objects, of whom one wins.
func race(t *testing.T, s *Storage, prefix string) {
	t.Helper()
	for i := range 10 {
		url := fmt.Sprintf("%srace-%d", prefix, i)
		var winner atomic.Int64
		var writers sync.WaitGroup
		for n := range int64(32) {
			writers.Go(func() {
				switch err := put(t, s, url, fmt.Sprint(n+1), actions.PutOptions{Once: true}); {
				case err == nil && !winner.CompareAndSwap(0, n+1):
					t.Errorf("%s: two have won", url)
				case err != nil && actions.CodeOf(err) != actions.Conflict:
					t.Error(err)
				}
			})
		}
		writers.Wait()
		if got := read(t, s, url, 0, -1); got != fmt.Sprint(winner.Load()) {
			t.Errorf("%s: got %s, want what %d has written", url, got, winner.Load())
		}
	}
}

// TestFolderSweep shows which temporary files are removed.
func TestFolderSweep(t *testing.T) {
	s, dir, url := newFolder(t)
	old := time.Now().Add(-2 * oldAge)
	names := map[string]bool{"old": false, "held": true, "young": true, "keep": true} // whether it stays
	for name := range names {
		file, err := os.Create(filepath.Join(dir, temporary+name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		if name == "held" && !hold(file) {
			t.Fatal("it cannot be locked")
		}
		if name != "young" {
			if err := os.Chtimes(file.Name(), old, old); err != nil {
				t.Fatal(err)
			}
		}
		if name != "held" {
			_ = file.Close()
		}
	}
	if err := os.Rename(filepath.Join(dir, temporary+"keep"), filepath.Join(dir, "keep")); err != nil {
		t.Fatal(err)
	}
	if err := put(t, s, url+"new", "x", actions.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, stays := range names {
		if name != "keep" {
			name = temporary + name
		}
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s: got %v, want it to stay: %v", name, err, stays)
		}
	}
}

// TestFolderFull shows what is said when a file gets larger than it may.
func TestFolderFull(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		l, err := parse("file:///data/x")
		if err != nil {
			t.Fatal(err)
		}
		err = fileError(l, &os.PathError{Op: "write", Path: "/data/x", Err: cause})
		wantError(t, err, actions.Unavailable, "the store is full")
		if e, _ := errors.AsType[*actions.Error](err); e.RetryAfter == 0 {
			t.Error("got no time to try again")
		}
	}
}

func BenchmarkFolderPut(b *testing.B) {
	dir := b.TempDir()
	s := newStorage(b, Config{Allow: []string{"file://" + dir}})
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := s.Put(b.Context(), "file://"+dir+"/object", bytes.NewReader(data), int64(len(data)), actions.PutOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
