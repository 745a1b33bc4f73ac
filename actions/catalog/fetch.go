package catalog

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/deepfn/deepfn/actions"
)

// A piece is one file that is wanted: what it is called in messages, where it comes
// from, and where it lies when it is there.
type piece struct {
	name string
	file actions.ModelFile
	path string
}

// Fetch makes the files of a model present and returns the absolute path of each. All
// of them are hashed each time, about 10 ms for 10 MB, and match their SHA256 when
// Fetch returns no error.
//
// A file in the action's folder stays there, all others are in the cache. What is
// missing is fetched: a package from those installed for Python, else with pip, and a
// URL over HTTPS. Several processes may fetch the same at once; one does and the
// others wait.
//
// The error is Unavailable and says what was tried and what to do, or Canceled or
// Deadline when ctx ended, or Invalid for a model that Validate refuses.
func (c *Catalog) Fetch(ctx context.Context, m actions.Model) (map[string]string, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	paths := make(map[string]string, len(m.Files))
	missing := make(map[string][]piece) // by source
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		p, err := c.piece(m.Name+": file "+name, m.Files[name])
		if err == nil && p.source() == "" {
			p, err = c.local(m, p)
		} else if err == nil && !c.cached(p) {
			missing[p.source()] = append(missing[p.source()], p)
		}
		if err != nil {
			return nil, fetchError(ctx, p.name, err)
		}
		paths[name] = p.path
	}
	for _, source := range slices.Sorted(maps.Keys(missing)) {
		if err := c.fetch(ctx, source, missing[source], nil); err != nil {
			return nil, fetchError(ctx, m.Name, err)
		}
	}
	return paths, nil
}

// Paths returns where the files of a model lie, or will when they are fetched, without looking at
// them. A file whose place cannot be known is left out.
func (c *Catalog) Paths(m actions.Model) []string {
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		p, err := c.piece(m.Name+": file "+name, m.Files[name])
		if err == nil && p.source() == "" && m.Dir != "" {
			p.path = filepath.Join(m.Dir, filepath.FromSlash(p.file.Path))
		}
		if err == nil {
			paths = append(paths, p.path)
		}
	}
	return paths
}

// source names what is fetched once for several pieces: a package or a URL; "" for a
// file in the action's folder.
func (p piece) source() string { return p.file.Package + p.file.URL }

// piece finds the place of a file in the cache.
func (c *Catalog) piece(name string, f actions.ModelFile) (piece, error) {
	p := piece{name: name, file: f}
	p.file.SHA256 = strings.ToLower(f.SHA256)
	base := path.Base(f.Path)
	if f.URL != "" {
		u, err := url.Parse(f.URL)
		if err != nil {
			return p, err
		}
		if base = path.Base(u.Path); base == "/" || base == "." || base == ".." {
			base = "file"
		}
	}
	if c.cfg.CacheDir == "" {
		return p, errors.New("no folder is set for the cache")
	}
	cache, err := filepath.Abs(c.cfg.CacheDir)
	p.path = filepath.Join(cache, "sha256", p.file.SHA256, base)
	return p, err
}

// local finds a file that belongs to the action: in its folder or, for an action in
// the program, in the cache, where it is put for the worker to open.
func (c *Catalog) local(m actions.Model, p piece) (piece, error) {
	if m.Dir == "" {
		if c.cached(p) {
			return p, nil
		}
		f, err := c.cfg.shipped().Open(m.Name + "/" + p.file.Path)
		if err != nil {
			return p, err
		}
		defer func() { _ = f.Close() }() // it was only read
		return p, c.store(p, m.Name+"/"+p.file.Path, filepath.Dir(p.path), f)
	}
	p.path = filepath.Join(m.Dir, filepath.FromSlash(p.file.Path))
	sum, err := hashFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("there is no file %s; put it there, or correct the path in %s", p.path, actionFile)
	}
	if err == nil && sum != p.file.SHA256 {
		err = fmt.Errorf("%s has the sha256 %s, but %s says %s; if the file is the right one, write its hash there",
			p.path, sum, actionFile, p.file.SHA256)
	}
	return p, err
}

// shipped is Shipped, or an empty file system.
func (cfg Config) shipped() fs.FS {
	if cfg.Shipped == nil {
		return embed.FS{}
	}
	return cfg.Shipped
}

// fetch fetches the pieces of one source, in its work folder, while no other process
// does.
func (c *Catalog) fetch(ctx context.Context, source string, pieces []piece, pipArgs []string) error {
	if c.cfg.Offline && pieces[0].file.URL != "" {
		return c.offline(pieces)
	}
	work, release, err := c.workspace(ctx, source)
	if err != nil {
		return err
	}
	defer release()
	pieces = slices.DeleteFunc(pieces, c.cached) // somebody else may have been faster
	if len(pieces) == 0 {
		return nil
	}
	if pieces[0].file.URL != "" {
		for _, p := range pieces {
			if err := c.download(ctx, p, work); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		return nil
	}
	return c.fetchPackage(ctx, source, pieces, work, pipArgs)
}

// offline is the error for pieces that are not there and must not be fetched.
func (c *Catalog) offline(pieces []piece) error {
	places := make([]string, len(pieces))
	for i, p := range pieces {
		places[i] = fmt.Sprintf("%s (sha256 %s) as %s", path.Base(p.path), p.file.SHA256, p.path)
	}
	return fmt.Errorf("%s: not in the cache, and fetching %s is switched off (offline); allow it, or put %s",
		pieces[0].name, pieces[0].source(), strings.Join(places, ", "))
}

// fetchError gives an error its code, and what to do where one does not know.
func fetchError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctxError(ctx, what, err)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w; make room, or choose another folder for the cache", err)
	}
	if strings.HasPrefix(err.Error(), what+": ") {
		return actions.Errorf(actions.Unavailable, "%w", err)
	}
	return actions.Errorf(actions.Unavailable, "%s: %w", what, err)
}

// ctxError is the error of a call whose ctx has ended.
func ctxError(ctx context.Context, what string, err error) error {
	code := actions.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = actions.Deadline
	}
	return actions.Errorf(code, "%s: %w", what, errors.Join(ctx.Err(), err))
}
