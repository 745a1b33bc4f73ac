package launcher_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// dies is a function that gets a file and does the Python of its argument do.
const dies = `
import os, pathlib
def predict(do: str, x: pathlib.Path):
    assert x.read_bytes() == b"abc"
    exec(do, globals(), {"x": x})
    return str(x)
`

// deadlyVariable makes the test binary a server that its worker kills.
const deadlyVariable = "DEEPFN_TEST_DEADLY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(deadlyVariable); dir != "" {
		deadlyMain(dir)
	}
	os.Exit(m.Run())
}

// folders lists the folders of uploads.
func folders(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "deepfn-uploads-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func abc() actions.File { return actions.File{Name: "x", Filename: "a.png", Data: []byte("abc")} }

// A worker that dies leaves no uploads, however it was started.
func TestUploadsOfTheDead(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := open(t, launcher.Config{})
	for _, do := range []string{
		"os.abort()", "os._exit(0)", "os.kill(os.getpid(), 9)",
		"(x.parent / 'd').mkdir(); (x.parent / 'd' / 'f').touch(); os.chmod(x.parent / 'd', 0); os.chmod(x.parent, 0); os._exit(0)",
		"os.symlink('/etc', x.parent / 'link'); os.abort()",
	} {
		for _, forked := range []bool{false, true} {
			var w *worker.Worker
			if run := action(t, dies); forked {
				w = b.forked(t, run)
			} else {
				w = b.start(t, run)
			}
			resp, err := call(t, w, "pass", abc())
			if err != nil || !strings.Contains(string(resp.Data), "/deepfn-uploads-") {
				t.Fatalf("got %s, %v, want a path of a folder of uploads", resp.Data, err)
			}
			if _, err := call(t, w, do, abc()); err == nil || err.Code != actions.Unavailable {
				t.Errorf("%s: got %v, want unavailable", do, err)
			}
			wantDone(t, w)
			eventually(t, "the uploads go: "+do, func() bool { return len(folders(t)) == 0 })
		}
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

// deadlyMain starts a worker and is killed by it in a call with an upload.
func deadlyMain(dir string) {
	l, err := launcher.New(launcher.Config{Dir: dir})
	if err == nil {
		var w *worker.Worker
		w, err = l.Start(context.Background(), launcher.Run{
			Model:  actions.Model{Name: "model", Dir: dir, Runtime: actions.Python},
			Spec:   launcher.Spec{Path: "dies.py"},
			Python: os.Getenv("DEEPFN_TEST_PYTHON_CURRENT"),
		})
		if err == nil {
			_, err = w.Call(context.Background(), actions.Request{
				Model: "model", Files: []actions.File{abc()},
				Args: []byte(`{"do": "os.kill(os.getppid(), 9)\nwhile True: pass"}`),
			})
		}
	}
	fmt.Println("not killed:", err)
	os.Exit(1)
}

// What a server that was killed leaves is removed by the next one, and what a worker holds
// that lives is not.
func TestUploadsOfADeadServer(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := open(t, launcher.Config{})
	w := b.start(t, action(t, dies))
	gate := filepath.Join(t.TempDir(), "gate")
	held := make(chan string, 1)
	go func() {
		resp, err := call(t, w, fmt.Sprintf("import time\nwhile not os.path.exists(%q): time.sleep(0.002)", gate), abc())
		held <- fmt.Sprint(string(resp.Data), err)
	}()
	eventually(t, "the upload is stored", func() bool { return len(folders(t)) == 1 })
	mine := folders(t)

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dies.py"), []byte(dies), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), "/proc/self/exe")
	server.Env = append(os.Environ(), deadlyVariable+"="+dir)
	if out, err := server.CombinedOutput(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("got %v, want a server that was killed: %s", err, out)
	}
	if left := folders(t); len(left) != 2 {
		t.Fatalf("the dead server left %v, want its upload and %v", left, mine)
	}

	next := open(t, launcher.Config{})
	last := next.start(t, action(t, "def main(args): pass"))
	eventually(t, "what the dead server left goes", func() bool { return slices.Equal(folders(t), mine) })
	_ = last.Close()
	if err := next.Close(); err != nil { // waits for the sweeping
		t.Error(err)
	}
	if left := folders(t); !slices.Equal(left, mine) {
		t.Errorf("left are %v, want those of the worker that lives, %v", left, mine)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-held; !strings.Contains(got, filepath.Base(mine[0])) {
		t.Errorf("got %s, want a path in %v", got, mine)
	}
	if left := folders(t); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// An action may have a folder of temporary files of its own.
func TestUploadsOfTheDeadInAnotherFolder(t *testing.T) {
	temp := t.TempDir()
	b := open(t, launcher.Config{})
	run := action(t, dies)
	run.Spec.Env = map[string]string{"TMPDIR": temp}
	w := b.start(t, run)
	if resp, err := call(t, w, "pass", abc()); err != nil || !strings.HasPrefix(string(resp.Data), `"`+temp) {
		t.Errorf("got %s, %v, want a path in %s", resp.Data, err, temp)
	}
	if _, err := call(t, w, "os.abort()", abc()); err == nil {
		t.Error("got no error")
	}
	wantDone(t, w)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v", left, err)
	}
}

// What only looks like a folder of uploads stays.
func TestUploadsAreFolders(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	kept := filepath.Join(t.TempDir(), "kept")
	for path, make := range map[string]func(string) error{
		"deepfn-uploads-file": func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"deepfn-uploads-link": func(p string) error { return os.Symlink(filepath.Dir(kept), p) },
		"deepfn-other":        func(p string) error { return os.Mkdir(p, 0o700) },
		"deepfn-uploads-dead": func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		if err := make(filepath.Join(os.TempDir(), path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, launcher.Config{})
	_ = b.start(t, action(t, "def main(args): pass")).Close()
	_ = b.Close()
	var left []string
	entries, err := os.ReadDir(os.TempDir())
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"deepfn-other", "deepfn-uploads-file", "deepfn-uploads-link"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("got %v, %v, want %v", left, err, want)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// A worker of a server that was killed may hold its lock a moment longer.
func TestUploadsOfTheDying(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	path := filepath.Join(os.TempDir(), "deepfn-uploads-dying")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b := open(t, launcher.Config{})
	_ = b.start(t, action(t, "def main(args): pass"))
	if left := folders(t); len(left) != 1 {
		t.Fatalf("got %v, want what somebody holds", left)
	}
	_ = held.Close()
	eventually(t, "the folder goes", func() bool { return len(folders(t)) == 0 })
}
