package environment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClone shows what git is called with.
func TestClone(t *testing.T) {
	bin := t.TempDir()
	notes := filepath.Join(bin, "notes")
	script := "#!/bin/sh\necho \"$GIT_TERMINAL_PROMPT $GIT_ALLOW_PROTOCOL $*\" >> " + notes + "\n"
	if err := os.Chmod(write(t, bin, "git", script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	hash := strings.Repeat("a1", 20)
	for from, want := range map[string][]string{
		"https://example.com/org/repo.git":  {"clone --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/org/repo.git TO/repo"},
		"git+https://example.com/repo@v1.0": {"clone --branch v1.0 --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"https://example.com/repo#feat/x":   {"clone --branch feat/x --depth 1 --recurse-submodules --shallow-submodules -- https://example.com/repo TO/repo"},
		"https://user@example.com/repo":     {"clone --depth 1 --recurse-submodules --shallow-submodules -- https://user@example.com/repo TO/repo"},
		"git@example.com:org/repo.git@main": {"clone --branch main --depth 1 --recurse-submodules --shallow-submodules -- git@example.com:org/repo.git TO/repo"},
		"git@example.com:repo":              {"clone --depth 1 --recurse-submodules --shallow-submodules -- git@example.com:repo TO/repo"},
		"ssh://git@example.com/repo#" + hash: {
			"init --quiet -- TO/repo", "-C TO/repo fetch --depth 1 -- ssh://git@example.com/repo " + hash, "-C TO/repo checkout --quiet FETCH_HEAD",
		},
	} {
		src, err := parseSource(from)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		to := filepath.Join(t.TempDir(), "to")
		if _, err := New(Config{}).bring(t.Context(), src, to); err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		var got []string
		for line := range strings.Lines(strings.ReplaceAll(read(t, notes), to, "TO")) {
			got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "0 https:ssh:file "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", from, diff)
		}
		if err := os.Remove(notes); err != nil {
			t.Fatal(err)
		}
	}
}
