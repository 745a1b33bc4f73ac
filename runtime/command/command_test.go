package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestEnviron(t *testing.T) {
	t.Setenv("DEEPFN_A", "of the process")
	t.Setenv("DEEPFN_B", "of the process")
	env := Environ(map[string]string{"DEEPFN_B": "x=y", "DEEPFN_C": "1"}, map[string]string{"DEEPFN_C": ""})
	for name, want := range map[string]string{"DEEPFN_A": "of the process", "DEEPFN_B": "x=y", "DEEPFN_C": "", "PATH": os.Getenv("PATH")} {
		if got := Lookup(env, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	// A program sees it so, too.
	name := filepath.Join(t.TempDir(), "seen")
	c, err := Start(Config{Argv: []string{"sh", "-c", `echo "$DEEPFN_A,$DEEPFN_B,$DEEPFN_C" > "$0"`, name}, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if seen, err := os.ReadFile(name); err != nil || string(seen) != "of the process,x=y,\n" {
		t.Errorf("a program sees %q, %v", seen, err)
	}
}

func TestFind(t *testing.T) {
	folder, path := t.TempDir(), t.TempDir()
	for name, mode := range map[string]os.FileMode{
		folder + "/run": 0o700, folder + "/data": 0o600, path + "/run": 0o700, path + "/tool": 0o700, path + "/data": 0o700,
	} {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder+"/tool", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, folder, want string
		code               actions.Code
	}{
		{"run", folder, folder + "/run", ""},
		{"./run", folder, folder + "/run", ""},
		{"run", "", path + "/run", ""},
		{"tool", folder, path + "/tool", ""},
		{"./tool", folder, "", actions.NotFound},
		{"data", folder, "", actions.Invalid},
		{"none", folder, "", actions.NotFound},
		{"./run", "", "", actions.NotFound},
		{path + "/tool", folder, path + "/tool", ""},
		{path + "/none", folder, "", actions.NotFound},
	} {
		got, err := find(test.name, test.folder, []string{"PATH=.:relative:" + path})
		if got != test.want || actions.CodeOf(err) != test.code {
			t.Errorf("%s in %q: got %s, %v, want %s", test.name, test.folder, got, err, test.want)
		}
	}
}

func TestInGroup(t *testing.T) {
	for stat, want := range map[string]bool{
		"12 (sh) S 1 77 5":          true,
		"12 (a) S 1 77 (b) R 1 77 ": true,
		"12 (a) R 1 77 5) S 1 78 5": false,
		"12 (sh) Z 1 77 5":          false,
		"12 (sh) S 77 1 77":         false,
		"12 (sh) S":                 false,
		"":                          false,
	} {
		if got := inGroup([]byte(stat), 77); got != want {
			t.Errorf("%q: got %v, want %v", stat, got, want)
		}
	}
	if !slices.Contains(members(syscall.Getpgrp()), os.Getpid()) {
		t.Error("this process is not in its group")
	}
}

func TestStart(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\npwd > where\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := Start(Config{Argv: []string{"./script"}, Folder: dir, Env: Environ()})
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if !c.Ended() || c.State() != "exit status 3" || c.PID() == 0 {
		t.Errorf("got %q", c.State())
	}
	where, err := os.ReadFile(dir + "/where")
	if err != nil || strings.TrimSpace(string(where)) != dir {
		t.Errorf("it ran in %q, %v", where, err)
	}
	c.Kill() // does nothing to one that has ended
}

func TestTerminate(t *testing.T) {
	c, err := Start(Config{Argv: []string{"sh", "-c", "exec sleep 1000"}, Env: Environ()})
	if err != nil {
		t.Fatal(err)
	}
	c.Terminate()
	<-c.Done()
	if c.State() != "signal: terminated" {
		t.Errorf("got %q", c.State())
	}
}
