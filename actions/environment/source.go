package environment

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/archive"
)

// A source is where a module comes from.
type source struct {
	kind sourceKind
	from string // an absolute path, or what git clones
	ref  string // a branch, a tag or a commit of a repository; "" for its default
	base string // the name that the module's folder has
}

type sourceKind int

const (
	sourceFolder sourceKind = iota
	sourceArchive
	sourceWheel
	sourceGit
)

// parseSource finds out what a person named.
func parseSource(s string) (source, error) {
	if info, err := os.Stat(s); err == nil {
		abs, err := filepath.Abs(s)
		if err != nil {
			return source{}, err
		}
		return localSource(abs, s, info)
	}
	if src, ok, err := gitSource(s); ok || err != nil {
		return src, err
	}
	return source{}, actions.Errorf(actions.NotFound, "there is no folder or file of that name, and it is no repository; "+
		"a module is a folder, a .zip, .tar.gz or .whl, or what git clones: https://…, ssh://…, git@HOST:…, file://…, or the path of a bare repository, with @REF or #REF for a branch or a tag")
}

// localSource is a source on disk.
func localSource(abs, shown string, info fs.FileInfo) (source, error) {
	src := source{from: abs, base: filepath.Base(abs)}
	switch {
	case info.IsDir() && !exists(abs, ".git") && exists(abs, "HEAD") && exists(abs, "objects") && exists(abs, "refs"):
		src.kind, src.base = sourceGit, strings.TrimSuffix(src.base, ".git")
	case info.IsDir():
		src.kind = sourceFolder
	case !info.Mode().IsRegular():
		return src, actions.Errorf(actions.Invalid, "%s is neither a file nor a folder", shown)
	case strings.HasSuffix(src.base, ".whl"):
		src.kind = sourceWheel
		src.base, _, _ = strings.Cut(src.base, "-")
	default:
		f, err := os.Open(abs) // #nosec G304 -- who runs the command names it
		if err != nil {
			return src, actions.Errorf(actions.NotFound, "%w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		head := make([]byte, 4)
		_, _ = io.ReadFull(f, head) // too short is no archive either
		if archive.Sniff(head) == "" {
			return src, actions.Errorf(actions.Invalid, "%s is neither a zip nor a tar.gz nor a wheel", shown)
		}
		src.kind = sourceArchive
		for _, suffix := range []string{".gz", ".tgz", ".tar", ".zip", "-main", "-master"} {
			src.base = strings.TrimSuffix(src.base, suffix)
		}
	}
	return src, nil
}

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
	if at := strings.LastIndexByte(s, '@'); !found && at > strings.LastIndexAny(s, "/:") {
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

// redacted is an address without the name and the password in it.
func redacted(s string) string {
	if u, err := url.Parse(s); err == nil && u.Host != "" && u.User != nil {
		u.User = nil
		return u.String()
	}
	return s
}

// bring puts the source into the folder into, which it makes, and returns the folder of
// the module in there.
func (e *Environments) bring(ctx context.Context, src source, into string) (string, error) {
	if err := os.MkdirAll(into, 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return "", err
	}
	dir := filepath.Join(into, src.base)
	switch src.kind {
	case sourceGit:
		return dir, e.clone(ctx, src, dir)
	case sourceArchive:
		f, err := os.Open(src.from) // #nosec G304 -- who runs the command names it
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }() // it was only read
		info, err := f.Stat()
		if err != nil {
			return "", err
		}
		if err := archive.Unpack(ctx, f, info.Size(), dir, archive.Limits{Bytes: e.cfg.MaxSource, Files: maxFiles}); err != nil {
			return "", err
		}
		return archive.Top(dir)
	default:
		from, err := filepath.EvalSymlinks(src.from)
		if err != nil {
			return "", err
		}
		c := copier{e: e, left: e.cfg.MaxSource}
		return dir, c.folder(ctx, from, dir)
	}
}

// commitHash is the full name of a commit.
var commitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// clone clones the newest commit of a repository, or that of a ref.
func (e *Environments) clone(ctx context.Context, src source, dir string) error {
	if e.cfg.Offline && !filepath.IsAbs(src.from) && !strings.HasPrefix(src.from, "file://") {
		return actions.Errorf(actions.Unavailable, "cloning is switched off (offline)")
	}
	from := src.from
	if filepath.IsAbs(from) {
		from = "file://" + from // --depth is ignored for a path
	}
	commands := [][]string{{"clone", "--depth", "1", "--recurse-submodules", "--shallow-submodules", "--", from, dir}}
	switch {
	case commitHash.MatchString(src.ref):
		commands = [][]string{
			{"init", "--quiet", "--", dir},
			{"-C", dir, "fetch", "--depth", "1", "--", from, src.ref},
			{"-C", dir, "checkout", "--quiet", "FETCH_HEAD"},
		}
	case src.ref != "":
		commands[0] = append([]string{"clone", "--branch", src.ref}, commands[0][1:]...)
	}
	for _, args := range commands {
		cmd := command(ctx, "git", args...)
		cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=https:ssh:file")
		if err := e.tool(cmd); err != nil {
			return fmt.Errorf("git %s %s: %w", strings.TrimPrefix(args[0], "-C"), redacted(src.from), err)
		}
	}
	return nil
}

// A copier copies a folder and counts its bytes and files.
type copier struct {
	e     *Environments
	left  int64
	files int
}

// folder copies a folder, without environments and caches in it.
func (c *copier) folder(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if c.files++; c.files > maxFiles {
			return actions.Errorf(actions.TooLarge, "%s has more than %d files", from, maxFiles)
		}
		target := filepath.Join(to, rel)
		switch {
		case entry.IsDir() && rel != "." && (entry.Name() == "__pycache__" || exists(name, "pyvenv.cfg") || same(name, c.e.cfg.Dir)):
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(target, 0o755) // #nosec G301 -- workers of other users read it
		case entry.Type()&fs.ModeSymlink != 0:
			return copyLink(from, name, target)
		case entry.Type().IsRegular():
			return c.file(name, target)
		}
		c.e.cfg.Log.Warn("neither a file nor a folder, not copied", "path", name)
		return nil
	})
}

// copyLink copies a link. One that leads out of the folder leads to the same place still.
func copyLink(root, name, target string) error {
	to, err := os.Readlink(name)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(to) {
		whole := filepath.Join(filepath.Dir(name), to)
		if rel, err := filepath.Rel(root, whole); err != nil || !filepath.IsLocal(rel) {
			to = whole
		}
	}
	return os.Symlink(to, target)
}

func (c *copier) file(name, target string) error {
	in, err := os.Open(name) // #nosec G304 -- who runs the command names the folder
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if c.left -= info.Size(); c.left < 0 {
		return actions.Errorf(actions.TooLarge, "the source has more than %d bytes", c.e.cfg.MaxSource)
	}
	perm := fs.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		perm = 0o755
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm) // #nosec G304 -- below the folder of the module
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}
