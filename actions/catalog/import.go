package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/archive"
)

// Import makes a model of the code that an /init carries: a zip or tar.gz of a folder
// with exec, __main__.py, api.py or an action.yaml; an ELF program or a script; or else
// the text of a Python function. From then on Model knows it, by the last segment of the
// source's name, before any model of the same name on disk.
//
// The code is kept in the cache by its SHA-256, and is not unpacked again when it comes
// again. The error is Invalid for code that is none of these, TooLarge over the limits of
// Config.Unpack, Unavailable when it cannot be kept, Canceled or Deadline.
func (c *Catalog) Import(ctx context.Context, source actions.Source) (actions.Model, error) {
	if err := ctx.Err(); err != nil {
		return actions.Model{}, ctxError(ctx, "code", err)
	}
	m, err := c.importCode(ctx, source)
	if err != nil {
		return actions.Model{}, codeError(ctx, "code", err)
	}
	m.Env = source.Env
	c.mu.Lock()
	c.imported[m.Name] = m
	c.mu.Unlock()
	return m, nil
}

// Forget takes out what Import has made: Model does not know it any more, but what else has
// that name on disk. The cache keeps the code.
func (c *Catalog) Forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.imported, name)
}

func (c *Catalog) importCode(ctx context.Context, source actions.Source) (actions.Model, error) {
	data := source.Data
	sum := sha256.Sum256(data)
	key := hex.EncodeToString(sum[:])
	name := path.Base(source.Name)
	switch {
	case len(data) == 0:
		return actions.Model{}, actions.Errorf(actions.Invalid, "there is none")
	case archive.Sniff(data) != "":
		return c.importArchive(ctx, key, source)
	case isProgram(data) && !isFunction(data, source.Main):
		dir, err := c.keepCode(ctx, key+"-exec", oneFile(execFile, data, 0o755))
		if err != nil {
			return actions.Model{}, err
		}
		return executable(dir, execFile, folder{shown: dir, name: name, ours: true})
	case bytes.IndexByte(data, 0) < 0 && utf8.Valid(data):
		dir, err := c.keepCode(ctx, key+"-python", oneFile(mainFile, data, 0o644))
		if err != nil {
			return actions.Model{}, err
		}
		return pythonFile(dir, mainFile, functionName(source.Main), name)
	}
	return actions.Model{}, actions.Errorf(actions.Invalid,
		"it is neither a zip, a tar.gz, an ELF program, a script that begins with #!, nor the text of a Python function")
}

// importArchive makes a model of an archive. A single folder in it is not its root, as
// on OpenWhisk.
func (c *Catalog) importArchive(ctx context.Context, key string, source actions.Source) (actions.Model, error) {
	f := folder{shown: "SOURCE", name: path.Base(source.Name), main: functionName(source.Main), ours: true}
	r := io.NewSectionReader(bytes.NewReader(source.Data), 0, int64(len(source.Data)))
	itself := func(dir string) (string, error) { return dir, nil }
	m, err := c.openUnpacked(ctx, key+"-archive", r, itself, f)
	if actions.CodeOf(err) == actions.NotFound {
		kind := "Zip file"
		if archive.Sniff(source.Data) == archive.TarGz {
			kind = "Archive"
		}
		return m, actions.Errorf(actions.Invalid, "%s does not include __main__.py or exec at its top", kind)
	}
	if err == nil && source.Name != "" {
		m.Name = modelName(f.name) // also when its action.yaml has another one
	}
	return m, err
}

// functionName is the function that a caller asks for. Every platform sends "main" when
// its user has said nothing, and so it leaves the choice to the launcher, which looks for
// main first.
func functionName(main string) string {
	if main == "main" {
		return ""
	}
	return main
}

// pythonScript is a first line that names a Python interpreter.
var pythonScript = regexp.MustCompile(`^#![^\n]*python`)

// isFunction reports whether a script for Python is the source of a function, whose
// author has given it the customary first line, and not a program of its own, which reads
// its requests from its standard input.
func isFunction(data []byte, main string) bool {
	if main == "" {
		main = "main"
	}
	if !pythonScript.Match(data) || bytes.Contains(data, []byte("stdin")) {
		return false
	}
	defined, err := regexp.Match(`(?m)^(async +)?def +`+regexp.QuoteMeta(main)+` *\( *[^) ]`, data)
	return err == nil && defined
}

// oneFile writes a folder with one file in it.
func oneFile(name string, data []byte, perm os.FileMode) func(dir string) error {
	return func(dir string) error {
		if err := os.Mkdir(dir, 0o755); err != nil { // #nosec G301 -- workers of other users read it
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), data, perm)
	}
}

// keepCode returns the folder of the cache for a key. When it is not there, write makes
// it elsewhere first, so that nobody ever sees a part of it, while no other process does.
// It is on the disk before it has its name: a folder that is there counts as whole, also
// after the power failed.
func (c *Catalog) keepCode(ctx context.Context, key string, write func(dir string) error) (string, error) {
	if c.cfg.CacheDir == "" {
		return "", errors.New("no folder is set for the cache")
	}
	cache, err := filepath.Abs(c.cfg.CacheDir)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "code", key)
	there := func() bool {
		info, err := os.Stat(dir)
		return err == nil && info.IsDir()
	}
	if there() {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return "", err
	}
	work, release, err := c.workspace(ctx, "code "+key)
	if err != nil {
		return "", err
	}
	defer release()
	if there() { // somebody else was faster
		return dir, nil
	}
	unpacked := filepath.Join(work, "code")
	if err := write(unpacked); err != nil {
		return "", err
	}
	return dir, c.publish(unpacked, dir)
}
