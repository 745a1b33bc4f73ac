package relay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestReadToken(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ name, text, want string }{
		{"hex and a newline", strings.Repeat("ab", 32) + "\n", strings.Repeat("ab", 32)},
		{"short", "secret", ""},
		{"empty", "", ""},
		{"endless", strings.Repeat("x", maxToken+1), ""},
	} {
		file := filepath.Join(dir, test.name)
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadToken(file)
		if string(got) != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: got %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	_, err := ReadToken(filepath.Join(dir, "none"))
	if !errors.Is(err, os.ErrNotExist) || actions.CodeOf(err) != actions.Unauthorized {
		t.Errorf("no file: got %v", err)
	}
}

// TestTokenOfAPipe has a pipe that nobody writes to, and a folder, where the token should be.
func TestTokenOfAPipe(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{pipe, dir} {
		_, err := ReadToken(file)
		if actions.CodeOf(err) != actions.Unauthorized || !strings.Contains(err.Error(), "is no file") {
			t.Errorf("%s: got %v, want that it is no file", file, err)
		}
	}
}

func TestReadOwnToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o600: "", 0o400: "", 0o640: "chmod 600", 0o602: "chmod 600", 0o604: "chmod 600"} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadOwnToken(file, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mode %o: got %v, want %q", mode, err, want)
		}
		if _, err := ReadToken(file); err != nil {
			t.Errorf("mode %o of a file that was named: %v", mode, err)
		}
	}
}

// TestOwnersOfTokens says whose a token that nobody has named may be.
func TestOwnersOfTokens(t *testing.T) {
	me := os.Geteuid()
	for _, test := range []struct {
		name string
		uid  int
		also []int
		ok   bool
	}{
		{"root's", 0, nil, true},
		{"one's own", me, nil, true},
		{"a stranger's", me + 4321, nil, false},
		{"that of a user who is allowed", me + 4321, []int{me + 4321}, true},
	} {
		err := checkOwner("token", test.uid, test.also)
		if (err == nil) != test.ok || err != nil && !strings.Contains(err.Error(), "--token-file") {
			t.Errorf("%s: got %v, want ok=%v", test.name, err, test.ok)
		}
	}
}

// TestTokenWithoutDescriptors shows that a system short of descriptors is no wrong token.
func TestTokenWithoutDescriptors(t *testing.T) {
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		err := tokenError(&os.PathError{Op: "open", Path: "/secret/place", Err: short})
		if err.Code != actions.Unavailable || strings.Contains(err.Msg, "/secret") || !errors.Is(err, short) {
			t.Errorf("%v: got %s, %s", short, err.Code, err.Msg)
		}
	}
}
