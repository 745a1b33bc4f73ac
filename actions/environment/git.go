package environment

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/disk"
)

// gitSource parses what git clones, with a ref behind '#' or, in the last part of the
// path, behind '@'.
func gitSource(s string) (source, bool, error) {
	s = strings.TrimPrefix(s, "git+")
	remote := strings.HasPrefix(s, "git@") && strings.Contains(s, ":")
	for _, scheme := range []string{"https://", "ssh://", "file://"} {
		remote = remote || strings.HasPrefix(s, scheme)
	}
	if !remote {
		if scheme, _, ok := strings.Cut(s, "://"); ok {
			return source{}, false, actions.Errorf(actions.Invalid, "%.20s:// is not cloned from; use https, ssh or file", scheme)
		}
		return source{}, false, nil
	}
	from, ref, found := strings.Cut(s, "#")
	if at := strings.LastIndexByte(s, '@'); !found && at > strings.LastIndexAny(s, "/:") && !bare(s) {
		from, ref = s[:at], s[at+1:]
	}
	if strings.HasPrefix(ref, "-") || strings.ContainsAny(s, " \t\n\x00") {
		return source{}, false, actions.Errorf(actions.Invalid, "%.100q is not the address of a repository", redacted(s))
	}
	base := strings.TrimSuffix(path.Base(strings.TrimRight(strings.ReplaceAll(from, ":", "/"), "/")), ".git")
	if base == "" || base == "." || base == ".." {
		base = "module"
	}
	return source{kind: sourceGit, from: from, ref: ref, base: base}, true, nil
}

// bare reports whether s is the address of a host, without a path.
func bare(s string) bool {
	_, rest, found := strings.Cut(s, "://")
	return found && !strings.Contains(rest, "/")
}

// login is what stands before the host of an address: a name, with or without a password.
var login = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^/?#\s"'<>]*)@`)

// public is a text whose addresses are without names and passwords. Only the name of ssh
// stays: it is needed and no secret, as a name for https can be.
func public(s string) string {
	return login.ReplaceAllStringFunc(s, func(match string) string {
		parts := login.FindStringSubmatch(match)
		name, _, _ := strings.Cut(parts[2], ":")
		if strings.HasSuffix(parts[1], "ssh://") && name != "" {
			return parts[1] + name + "@"
		}
		return parts[1]
	})
}

// redacted is an address without the password in it, also one that is wrong.
func redacted(s string) string {
	shown := public(s)
	scheme, rest, found := strings.Cut(shown, "://")
	if _, err := url.Parse(shown); err == nil || !found {
		return shown
	}
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

// commitHash is the full name of a commit.
var commitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// clone clones the newest commit of a repository, or that of a ref, with its submodules.
// What the address has of a name and a password is used and not written anywhere.
func (e *Environments) clone(ctx context.Context, src source, dir string) error {
	from := src.from
	if filepath.IsAbs(from) {
		from = "file://" + from // --depth is ignored for a path
	}
	local := strings.HasPrefix(from, "file://")
	if e.cfg.Offline && !local {
		return actions.Errorf(actions.Unavailable, "cloning is switched off (offline)")
	}
	env := gitEnv(ctx, local)
	var options []string
	if match := login.FindString(from); strings.HasPrefix(match, "https://") {
		host, _, _ := strings.Cut(strings.TrimPrefix(from, match), "/")
		options = []string{"-c", "url." + match + host + "/.insteadOf=https://" + host + "/"}
		from = public(from)
	}
	for _, args := range gitCommands(from, src.ref, dir) {
		cmd := command(ctx, "git", append(options, args...)...)
		cmd.Env = append(cmd.Env, env...)
		if err := e.tool(cmd); err != nil {
			return fmt.Errorf("git %s %s: %w", verb(args), redacted(src.from), err)
		}
	}
	return nil
}

// gitCommands are the arguments that git is called with.
func gitCommands(from, ref, dir string) [][]string {
	clone := []string{"clone"}
	switch {
	case commitHash.MatchString(ref): // before git 2.49 clone knows no commits
		return [][]string{
			{"init", "--quiet", "--", dir},
			{"-C", dir, "remote", "add", "--", "origin", from},
			{"-C", dir, "fetch", "--depth", "1", "--", "origin", ref},
			{"-C", dir, "checkout", "--quiet", "FETCH_HEAD"},
			{"-C", dir, "submodule", "update", "--init", "--recursive", "--depth", "1"},
		}
	case ref != "":
		clone = append(clone, "--branch", ref)
	}
	return [][]string{append(clone, "--depth", "1", "--recurse-submodules", "--shallow-submodules", "--", from, dir)}
}

// verb is what git is told to do.
func verb(args []string) string {
	if args[0] == "-C" {
		return args[2]
	}
	return args[0]
}

// gitEnv keeps git from asking, since nobody answers, and from what submodules must not
// do: a repository from elsewhere could name files of this machine as its submodules
// (CVE-2022-39253), so only one of this machine may.
func gitEnv(ctx context.Context, local bool) []string {
	env := []string{"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=https:ssh"}
	if local {
		env[1] += ":file"
	}
	_, command := os.LookupEnv("GIT_SSH_COMMAND")
	_, program := os.LookupEnv("GIT_SSH")
	configured, err := query(ctx, "git", "config", "--get", "core.sshCommand")
	if !command && !program && (err != nil || len(configured) == 0) {
		env = append(env, "GIT_SSH_COMMAND=ssh -oBatchMode=yes")
	}
	return env
}

// extraHeader is a header in a configuration of git, as CI systems put tokens there.
var extraHeader = regexp.MustCompile(`(?mi)^\s*extraheader\s*=.*\n?`)

// hideLogins removes names and passwords from what git keeps of the sources below dir:
// the copy is readable for all, where the original may not have been.
func hideLogins(dir string) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(name, dir)
		inside := strings.Contains(rel, string(filepath.Separator)+".git"+string(filepath.Separator))
		switch {
		case err != nil:
			return err
		case entry.IsDir() && inside && entry.Name() == "objects":
			return fs.SkipDir
		case !inside || !entry.Type().IsRegular():
			return nil
		case !strings.HasPrefix(entry.Name(), "config") && entry.Name() != "FETCH_HEAD" && !strings.Contains(rel, "/logs/"):
			return nil
		}
		data, err := os.ReadFile(name) // #nosec G122 G304 -- in the copy, which is ours alone
		if err != nil {
			return err
		}
		if clean := extraHeader.ReplaceAllString(public(string(data)), ""); clean != string(data) {
			return disk.WriteFile(name, []byte(clean), 0o644)
		}
		return nil
	})
}
