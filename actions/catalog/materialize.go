package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/disk"
)

// Materialize gives a model that is built into the program a folder in the cache, with
// all its files, and returns the model with it as Dir. A model that has a folder is
// returned as it is. Files that somebody has changed there are written again.
//
// The error is NotFound for a model that is not in Config.Shipped, Unavailable when the
// folder cannot be written, Canceled or Deadline when ctx ended.
func (c *Catalog) Materialize(ctx context.Context, m actions.Model) (actions.Model, error) {
	if m.Dir != "" {
		return m, nil
	}
	what := "model " + m.Name
	if err := ctx.Err(); err != nil {
		return m, ctxError(ctx, what, err)
	}
	files, sum, err := c.shippedFiles(m.Name)
	if err != nil {
		return m, actions.Errorf(actions.NotFound, "%s is not in the program: %w", what, err)
	}
	if c.cfg.CacheDir == "" {
		return m, actions.Errorf(actions.Unavailable, "%s: no folder is set for the cache", what)
	}
	dir, err := filepath.Abs(filepath.Join(c.cfg.CacheDir, "shipped", sum, m.Name))
	if err != nil {
		return m, fetchError(ctx, what, err)
	}
	for _, f := range files {
		if err := f.ensure(dir); err != nil {
			return m, fetchError(ctx, what, err)
		}
	}
	m.Dir = dir
	return m, nil
}

// A shippedFile is a file of an action in the program.
type shippedFile struct {
	path string // slash-separated, in the action's folder
	data []byte
}

// shippedFiles reads all files of an action in the program, and makes a hash of them.
func (c *Catalog) shippedFiles(name string) (files []shippedFile, sum string, err error) {
	fsys, err := fs.Sub(c.cfg.shipped(), name)
	if err != nil {
		return nil, "", err
	}
	h := sha256.New()
	err = fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, path)
		if err != nil {
			return err
		}
		files = append(files, shippedFile{path, data})
		one := sha256.Sum256(data)
		_, _ = h.Write(append([]byte(path+"\x00"), one[:]...)) // a hash takes everything
		return nil
	})
	return files, hex.EncodeToString(h.Sum(nil)[:16]), err
}

// ensure makes the file present below dir. Whoever opens it meanwhile sees all of it.
func (f shippedFile) ensure(dir string) error {
	path := filepath.Join(dir, filepath.FromSlash(f.path))
	if data, err := os.ReadFile(path); err == nil && bytes.Equal(data, f.data) { // #nosec G304 -- in the cache
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return err
	}
	perm := fs.FileMode(0o644)
	if isProgram(f.data) {
		perm = 0o755
	}
	return disk.WriteFile(path, f.data, perm)
}
