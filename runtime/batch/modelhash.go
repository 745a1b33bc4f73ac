package batch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// wholeFile is how large a file may be that is hashed as a whole; of others it is both ends.
	wholeFile = 64 << 20
	fileEnd   = 1 << 20
	// maxModelFiles is how many files of a model are looked at.
	maxModelFiles = 10_000
)

// A knownHash is a hash of a model's folder that was made a moment ago.
type knownHash struct {
	sum  string
	made time.Time
}

// modelHash tells whether a model answers as it did before: it is a hash of what the model runs. Models
// mostly have no version, and people change them. The chunks that a replica does come one after
// the other, so that it is good for idleTime.
func (e *Engine) modelHash(ctx context.Context, m actions.Model) (string, error) {
	e.mu.Lock()
	known := e.hashes[m.Dir]
	e.mu.Unlock()
	if m.Dir != "" && known.sum != "" && time.Since(known.made) < idleTime {
		return known.sum, nil
	}
	sum, err := hashModel(ctx, m)
	if err == nil && m.Dir != "" {
		e.mu.Lock()
		e.hashes[m.Dir] = knownHash{sum, time.Now()}
		e.mu.Unlock()
	}
	return sum, err
}

func hashModel(ctx context.Context, m actions.Model) (string, error) {
	h := sha256.New()
	data, err := json.Marshal(struct {
		Runtime   string
		Files     map[string]actions.ModelFile
		Arguments []actions.Argument
		Spec      map[string]json.RawMessage
	}{m.Runtime, m.Files, m.Arguments, portable(m.Spec)})
	if err != nil {
		return "", actions.Errorf(actions.Internal, "model %s: %w", m.Name, err)
	}
	_, _ = h.Write(data) // a hash takes everything
	if m.Dir != "" {
		if err := hashFolder(ctx, h, m.Dir); err != nil {
			return "", actions.Errorf(actions.Unavailable, "model %s: its files: %w", m.Name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// portable is a spec without what may be another on each machine, and decides about no answer.
func portable(spec json.RawMessage) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(spec, &members) != nil {
		return map[string]json.RawMessage{"": spec}
	}
	for _, name := range []string{"interpreter", "working_dir", "preload", "suspend", "concurrency"} {
		delete(members, name)
	}
	return members
}

// hashFolder adds the code and the weights below a folder, in the order of their names.
func hashFolder(ctx context.Context, h hash.Hash, dir string) error {
	files := 0
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil { // entry may be nil
			return err
		}
		name := entry.Name()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir() && path != dir && isBeside(path, name):
			return fs.SkipDir
		case entry.IsDir() || !decides(name):
			return nil
		case files == maxModelFiles:
			return fs.SkipAll
		}
		files++
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(h, "\n%q ", filepath.ToSlash(relative)) // a hash takes everything
		return hashFile(h, path)
	})
}

// isBeside says whether a folder is hidden, of compiled code, or an environment of Python.
func isBeside(path, name string) bool {
	_, err := os.Stat(filepath.Join(path, "pyvenv.cfg"))
	return strings.HasPrefix(name, ".") || name == "__pycache__" || err == nil
}

// decides says whether a file is one that the answers of a model depend on: code, or weights. The
// others may be what it writes itself: logs, caches.
func decides(name string) bool {
	return name == "exec" || slices.Contains([]string{
		".py", ".sh", ".js", ".onnx", ".pt", ".pth", ".pkl", ".joblib", ".safetensors", ".h5", ".keras", ".npz", ".npy", ".gguf", ".bin",
	}, strings.ToLower(filepath.Ext(name)))
}

// hashFile adds a file.
func hashFile(h hash.Hash, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) { // a link to nothing
		return nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path) // #nosec G304 -- below the folder of a model
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	_, _ = fmt.Fprintf(h, "%d ", info.Size())
	if info.Size() <= wholeFile {
		_, err = io.Copy(h, f)
		return err
	}
	for _, at := range []int64{0, info.Size() - fileEnd} {
		if _, err := io.Copy(h, io.NewSectionReader(f, at, fileEnd)); err != nil {
			return err
		}
	}
	return nil
}
