package environment

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	case strings.HasSuffix(src.base, ".py"):
		return src, actions.Errorf(actions.Invalid, "%q is a file, which needs no installation: deepfn serve %s", shown, argument(shown))
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
