package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/actions/disk"
)

// hashFile returns the SHA-256 of a file. A pipe or a device, which might not end, is
// refused.
func hashFile(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", name)
	}
	f, err := os.Open(name) // #nosec G304 -- the path of a model's file is checked by Validate
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cached reports whether the piece is in the cache as it should be.
func (c *Catalog) cached(p piece) bool {
	sum, err := hashFile(p.path)
	if err == nil && sum == p.file.SHA256 {
		return true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.cfg.Log.Warn("cached file is damaged", "path", p.path, "sha256", sum, "error", err)
	}
	return false
}

// store puts what r reads into the cache when its hash is right. It is written to a
// file in dir first, on the same file system, so that nobody ever sees a part of it.
func (c *Catalog) store(p piece, from, dir string, r io.Reader) error {
	for _, d := range []string{dir, filepath.Dir(p.path)} {
		if err := os.MkdirAll(d, 0o755); err != nil { // #nosec G301 -- workers of other users read it
			return err
		}
	}
	return disk.Write(p.path, dir, 0o644, func(w io.Writer) error {
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, c.cfg.MaxFile+1))
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		if n > c.cfg.MaxFile {
			return fmt.Errorf("%s has more than %d bytes, the most that is fetched", from, c.cfg.MaxFile)
		}
		if sum := hex.EncodeToString(h.Sum(nil)); sum != p.file.SHA256 {
			return fmt.Errorf("%s has the sha256 %s, but %s is wanted: it is not the file that the model was made with; "+
				"correct the source, or the hash if you trust these %d bytes", from, sum, p.file.SHA256, n)
		}
		return nil
	})
}

// workspace gives an empty folder for fetching from source, which is removed by
// release. One process at a time has it; the lock ends with the process, so the folder
// of one that was killed is emptied by the next.
func (c *Catalog) workspace(ctx context.Context, source string) (dir string, release func(), err error) {
	cache, err := filepath.Abs(c.cfg.CacheDir)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256([]byte(source))
	dir = filepath.Join(cache, "work", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { // #nosec G301 -- as the cache itself
		return "", nil, err
	}
	lock, err := c.lock(ctx, dir+".lock")
	if err != nil {
		return "", nil, err
	}
	release = func() {
		_ = os.RemoveAll(dir)
		_ = lock.Close() // and unlocks
	}
	if err = os.RemoveAll(dir); err == nil {
		err = os.Mkdir(dir, 0o755) // #nosec G301 -- as the cache itself
	}
	if err != nil {
		release()
		return "", nil, err
	}
	return dir, release, nil
}

// lock waits until it has the lock file for itself.
func (c *Catalog) lock(ctx context.Context, name string) (*os.File, error) {
	return disk.Lock(ctx, name, func() { c.cfg.Log.Info("waiting for another fetch", "path", name) })
}
