package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// An entry is one member of an archive in a table. A name that ends in "/" is a folder.
type entry struct {
	name, data string
	mode       fs.FileMode // 0 means a file with 0644
	kind       byte        // of a tar header; 0 means that mode says it
}

// zipOf makes a zip archive.
func zipOf(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h.SetMode(e.mode)
		w, err := z.CreateHeader(h)
		if err == nil && !strings.HasSuffix(e.name, "/") {
			_, err = io.WriteString(w, e.data)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// tarOf makes a tar.gz archive.
func tarOf(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.data)), Typeflag: e.kind}
		switch {
		case e.kind == tar.TypeLink, e.kind == tar.TypeSymlink, e.mode&fs.ModeSymlink != 0:
			h.Linkname, h.Size = e.data, 0
			if e.kind == 0 {
				h.Typeflag = tar.TypeSymlink
			}
		case e.kind == 0 && strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.kind == 0:
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if e.mode&fs.ModeSetuid != 0 {
			h.Mode |= 0o4000
		}
		if e.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: e.kind, Name: e.name, PAXRecords: map[string]string{"comment": e.data}}
		}
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, e.data)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// unpack unpacks into a new folder and returns its path.
func unpack(t *testing.T, data []byte, limits Limits) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "unpacked")
	return dir, Unpack(t.Context(), bytes.NewReader(data), int64(len(data)), dir, limits)
}

// tree lists what lies in a folder: "mode path" and what is in it.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			content, err = os.Readlink(path)
		}
		found[info.Mode().String()+" "+name] = content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// makers are the forms of an archive.
func makers() map[Form]func(testing.TB, ...entry) []byte {
	return map[Form]func(testing.TB, ...entry) []byte{Zip: zipOf, TarGz: tarOf}
}

// TestUnpack shows what becomes of files, folders, links and permissions.
func TestUnpack(t *testing.T) {
	entries := []entry{
		{name: "./"},
		{name: "empty/"},
		{name: "a.txt", data: "A"},
		{name: "./b/c.txt", data: "C"},
		{name: "b//d.txt", data: "D"},
		{name: "run", data: "#!", mode: 0o700},
		{name: "secret", data: "s", mode: 0o600},
		{name: "root", data: "r", mode: 0o755 | fs.ModeSetuid},
		{name: "b/up", data: "../a.txt", mode: 0o777 | fs.ModeSymlink},
		{name: "nowhere", data: "missing", mode: 0o777 | fs.ModeSymlink},
		{name: "folder", data: "b", mode: 0o777 | fs.ModeSymlink},
		{name: "ünï code", data: "u"},
		{name: "a.txt", data: "again"},
		{name: "empty/"},
	}
	want := map[string]string{
		"drwxr-xr-x empty": "", "drwxr-xr-x b": "", "-rw-r--r-- a.txt": "again", "-rw-r--r-- b/c.txt": "C", "-rw-r--r-- b/d.txt": "D",
		"-rwxr-xr-x run": "#!", "-rw-r--r-- secret": "s", "-rwxr-xr-x root": "r", "Lrwxrwxrwx b/up": "../a.txt",
		"Lrwxrwxrwx nowhere": "missing", "Lrwxrwxrwx folder": "b", "-rw-r--r-- ünï code": "u",
	}
	for form, pack := range makers() {
		data := pack(t, entries...)
		if got := Sniff(data[:4]); got != form {
			t.Errorf("got the form %q, want %q", got, form)
		}
		dir, err := unpack(t, data, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", form, diff)
		}
	}
}

// TestUnpackTarOnly shows what only a tar can hold.
func TestUnpackTarOnly(t *testing.T) {
	data := tarOf(
		t,
		entry{name: "pax_global_header", data: "0123", kind: tar.TypeXGlobalHeader},
		entry{name: "a", data: "A", mode: 0o755},
		entry{name: "d/b", data: "a", kind: tar.TypeLink},
		entry{name: "a", data: "a", kind: tar.TypeLink},
	)
	data = append(data, "trailing bytes"...)
	dir, err := unpack(t, data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"-rwxr-xr-x a": "A", "drwxr-xr-x d": "", "-rwxr-xr-x d/b": "A"}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUnpackRefuses shows that nothing leaves the folder, and that nothing stays when an
// archive is refused.
func TestUnpackRefuses(t *testing.T) {
	link := fs.ModeSymlink | 0o777
	tests := map[string]struct {
		entries []entry
		want    string
	}{
		"up":             {[]entry{{name: "ok"}, {name: "../x"}}, "leads out of the folder"},
		"up later":       {[]entry{{name: "a/../../x"}}, "leads out of the folder"},
		"up inside":      {[]entry{{name: "a/../x"}}, "leads out of the folder"},
		"absolute":       {[]entry{{name: "/tmp/x"}}, "is an absolute path"},
		"backslash":      {[]entry{{name: `..\x`}}, "backslash"},
		"deep":           {[]entry{{name: strings.Repeat("a/", 100) + "x"}}, "64 folders deep"},
		"long":           {[]entry{{name: strings.Repeat("a", 2000)}}, "more than 1024 bytes"},
		"long part":      {[]entry{{name: strings.Repeat("a", 300)}}, "a name is too long"},
		"link up":        {[]entry{{name: "l", data: "../x", mode: link}}, "leads out of the folder"},
		"link absolute":  {[]entry{{name: "l", data: "/etc/passwd", mode: link}}, "leads out of the folder"},
		"link to link":   {[]entry{{name: "d/s", data: ".", mode: link}, {name: "d/l", data: "s/../../x", mode: link}}, "leads out of the folder"},
		"through a link": {[]entry{{name: "s", data: ".", mode: link}, {name: "s/x", data: "X"}}, "in each other's way"},
		"file and link":  {[]entry{{name: "s", data: "x"}, {name: "s", data: ".", mode: link}}, "in each other's way"},
		"file as folder": {[]entry{{name: "a", data: "x"}, {name: "a/b", data: "x"}}, "in each other's way"},
		"folder as file": {[]entry{{name: "a/b", data: "x"}, {name: "a", data: "x"}}, "in each other's way"},
		"link circle":    {[]entry{{name: "a", data: "b", mode: link}, {name: "b", data: "a", mode: link}}, "leads out of the folder or nowhere"},
		"link empty":     {[]entry{{name: "a", data: "", mode: link}}, "is a link to nothing"},
	}
	for name, tt := range tests {
		for form, pack := range makers() {
			dir, err := unpack(t, pack(t, tt.entries...), Limits{})
			if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s, %s: got %s %v, want Invalid with %q", name, form, actions.CodeOf(err), err, tt.want)
			}
			if left := tree(t, filepath.Dir(dir)); len(left) > 0 {
				t.Errorf("%s, %s: got %v, want nothing left", name, form, left)
			}
		}
	}
}

// TestUnpackRefusesTar shows the entries of a tar that are refused.
func TestUnpackRefusesTar(t *testing.T) {
	for name, e := range map[string]entry{
		"device":                {name: "d", kind: tar.TypeChar},
		"block device":          {name: "d", kind: tar.TypeBlock},
		"pipe":                  {name: "p", kind: tar.TypeFifo},
		"hard link out":         {name: "l", data: "../../etc/passwd", kind: tar.TypeLink},
		"hard link to absolute": {name: "l", data: "/etc/passwd", kind: tar.TypeLink},
		"hard link to nothing":  {name: "l", data: "x", kind: tar.TypeLink},
		"hard link to a folder": {name: "l", data: ".", kind: tar.TypeLink},
	} {
		if _, err := unpack(t, tarOf(t, e), Limits{}); actions.CodeOf(err) != actions.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}

// TestUnpackDamaged cuts and changes archives at every byte: what is left is whole or
// refused.
func TestUnpackDamaged(t *testing.T) {
	entries := []entry{{name: "a", data: strings.Repeat("hello ", 20)}, {name: "b/c", data: "C"}}
	for form, pack := range makers() {
		data := pack(t, entries...)
		for n := range len(data) {
			if _, err := unpack(t, data[:n], Limits{}); actions.CodeOf(err) != actions.Invalid {
				t.Fatalf("%s: cut to %d of %d bytes: got %v, want Invalid", form, n, len(data), err)
			}
		}
	}
	for _, data := range [][]byte{nil, []byte("P"), []byte("hello world"), []byte("PK\x03\x04"), []byte("\x1f\x8b"), {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := unpack(t, data, Limits{}); actions.CodeOf(err) != actions.Invalid {
			t.Errorf("%q: got %v, want Invalid", data, err)
		}
	}
	data := zipOf(t, entries...)
	data[40] ^= 0xff // in the compressed bytes of a
	if _, err := unpack(t, data, Limits{}); actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v, want that it is damaged", err)
	}
}

// TestUnpackZipOnly shows the members of a zip that cannot be read.
func TestUnpackZipOnly(t *testing.T) {
	data := zipOf(t, entry{name: "a", data: "A"})
	central := bytes.Index(data, []byte("PK\x01\x02"))
	encrypted, method := bytes.Clone(data), bytes.Clone(data)
	encrypted[central+8] |= 1
	method[central+10] = 14
	for want, data := range map[string][]byte{"is encrypted": encrypted, "by method 14": method} {
		if _, err := unpack(t, data, Limits{}); actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want Invalid with %q", err, want)
		}
	}
}

// TestUnpackLimits shows that bombs stop at the limits, exactly.
func TestUnpackLimits(t *testing.T) {
	for form, pack := range makers() {
		data := pack(t, entry{name: "a/b", data: strings.Repeat("x", 600)}, entry{name: "a/c", data: strings.Repeat("x", 400)})
		if _, err := unpack(t, data, Limits{Bytes: 1000, Files: 3}); err != nil {
			t.Errorf("%s: got %v at the limits, want none", form, err)
		}
		for want, limits := range map[string]Limits{"more than 999 bytes": {Bytes: 999}, "more than 2 files": {Files: 2}} {
			dir, err := unpack(t, data, limits)
			if actions.CodeOf(err) != actions.TooLarge || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want TooLarge with %q", form, err, want)
			}
			if left := tree(t, filepath.Dir(dir)); len(left) > 0 {
				t.Errorf("%s: got %v, want nothing left", form, left)
			}
		}
		bomb := pack(t, entry{name: "a", data: strings.Repeat("\x00", 20<<20)})
		if _, err := unpack(t, bomb, Limits{Bytes: 1 << 20}); actions.CodeOf(err) != actions.TooLarge {
			t.Errorf("%s: got %v for %d bytes that become 20 MiB, want TooLarge", form, err, len(bomb))
		}
	}
	many := make([]entry, 100)
	for i := range many {
		many[i] = entry{name: "l", data: strings.Repeat("v", 100), kind: tar.TypeXGlobalHeader}
	}
	if _, err := unpack(t, tarOf(t, many...), Limits{Files: 50}); actions.CodeOf(err) != actions.TooLarge {
		t.Errorf("got %v for headers without files, want TooLarge", err)
	}
}

// TestUnpackFaults shows the errors that are not the archive's.
func TestUnpackFaults(t *testing.T) {
	data := zipOf(t, entry{name: "a", data: "A"})
	dir := t.TempDir()
	if err := Unpack(t.Context(), bytes.NewReader(data), int64(len(data)), dir, Limits{}); actions.CodeOf(err) != actions.Unavailable {
		t.Errorf("got %v for a folder that is there, want Unavailable", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("got %v, want the folder as it was", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancelLate()
	for want, ctx := range map[actions.Code]context.Context{actions.Canceled: canceled, actions.Deadline: late} {
		target := filepath.Join(dir, "x")
		if err := Unpack(ctx, bytes.NewReader(data), int64(len(data)), target, Limits{}); actions.CodeOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := os.Stat(target); err == nil {
			t.Error("got a folder, want none left")
		}
	}
}

// TestTop shows when an archive's only folder is its root.
func TestTop(t *testing.T) {
	for name, tt := range map[string]struct {
		entries []entry
		want    string
	}{
		"one folder":   {[]entry{{name: "repo/a"}, {name: "repo/b/c"}}, "repo"},
		"file beside":  {[]entry{{name: "repo/a"}, {name: "b"}}, "."},
		"two folders":  {[]entry{{name: "a/a"}, {name: "b/b"}}, "."},
		"one file":     {[]entry{{name: "a"}}, "."},
		"nothing":      {nil, "."},
		"a link to it": {[]entry{{name: "a", data: ".", mode: fs.ModeSymlink | 0o777}}, "."},
	} {
		dir, err := unpack(t, zipOf(t, tt.entries...), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Top(dir); err != nil || got != filepath.Join(dir, tt.want) {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, tt.want)
		}
	}
}

// FuzzUnpack unpacks anything: nothing gets out of the folder, and an error leaves
// nothing behind.
func FuzzUnpack(f *testing.F) {
	link := fs.ModeSymlink | 0o777
	for _, pack := range makers() {
		f.Add(pack(f, entry{name: "a/b", data: "x"}, entry{name: "c/", mode: 0o755}))
		f.Add(pack(f, entry{name: "d/s", data: ".", mode: link}, entry{name: "d/l", data: "s/../../x", mode: link}))
		f.Add(pack(f, entry{name: "../x", data: "x"}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "a", "unpacked")
		if err := os.Mkdir(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		err := Unpack(t.Context(), bytes.NewReader(data), int64(len(data)), dir, Limits{Bytes: 1 << 16, Files: 100})
		want := []string{"a"}
		if err == nil {
			want = append(want, "a/unpacked")
			checkInside(t, dir)
		} else if code := actions.CodeOf(err); code != actions.Invalid && code != actions.TooLarge {
			t.Errorf("got %s %v, want Invalid or TooLarge", code, err)
		}
		var got []string
		for name := range tree(t, outer) {
			_, path, _ := strings.Cut(name, " ")
			if !strings.HasPrefix(path, "a/unpacked/") {
				got = append(got, path)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %q beside the folder, want %q", got, want)
		}
	})
}

// checkInside follows each link below dir.
func checkInside(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		real, err := filepath.EvalSymlinks(path)
		if err == nil && real != root && !strings.HasPrefix(real, root+"/") {
			t.Errorf("%s leads to %s, out of %s", path, real, root)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
