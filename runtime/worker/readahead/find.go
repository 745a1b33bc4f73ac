package readahead

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// minSize is the least size of weights in a folder, in bytes: what is smaller is read in
	// no time.
	minSize = 1 << 20
	// maxFiles is how many files are read, maxEntries how many a folder may hold, with all
	// below it, until its search is given up.
	maxFiles   = 4096
	maxEntries = 20_000
)

// A file is one that holds weights.
type file struct {
	path         string
	size, cached int64
	err          error
}

// An identity tells files apart that have several names.
type identity struct{ device, inode uint64 }

// A search gathers files.
type search struct {
	files   []file
	seen    map[identity]bool
	entries int
}

// errFull ends the search of a folder.
var errFull = errors.New("it has too many files")

// find returns the files that the paths name, each once. The error says what was left out.
func find(paths []string) ([]file, error) {
	s := &search{seen: map[identity]bool{}}
	var wrong error
	for _, path := range paths {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
		case info.IsDir():
			s.entries = 0
			err = filepath.WalkDir(path, s.visit)
		default:
			s.add(path, info)
		}
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("readahead: %s: %w", path, err))
		}
	}
	return s.files, wrong
}

// visit looks at an entry of a folder. What cannot be read there is no reason to leave out
// the rest.
func (s *search) visit(path string, entry fs.DirEntry, err error) error {
	s.entries++
	switch {
	case s.entries > maxEntries || len(s.files) >= maxFiles:
		return errFull
	case err != nil:
		return nil //nolint:nilerr // see above
	case entry.IsDir():
		if name := entry.Name(); name == ".git" || name == "__pycache__" || name == "site-packages" {
			return fs.SkipDir
		}
		return nil
	case !isWeights(entry.Name()):
		return nil
	}
	// Caches of models have links to files without names.
	if info, err := os.Stat(path); err == nil && info.Size() >= minSize {
		s.add(path, info)
	}
	return nil
}

// add adds a regular file, unless it is there by another name.
func (s *search) add(path string, info fs.FileInfo) {
	if !info.Mode().IsRegular() || len(s.files) >= maxFiles {
		return
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		id := identity{uint64(stat.Dev), stat.Ino} //nolint:unconvert // it is 32 bits wide elsewhere
		if s.seen[id] {
			return
		}
		s.seen[id] = true
	}
	s.files = append(s.files, file{path: path, size: info.Size()})
}

// isWeights says whether frameworks give such names to weights. TensorFlow's are numbered,
// "variables.data-00000-of-00001".
func isWeights(name string) bool {
	name = strings.ToLower(name)
	switch filepath.Ext(name) {
	case ".pt", ".pth", ".pt2", ".safetensors", ".onnx", ".onnx_data", ".ort", ".h5", ".hdf5", ".keras", ".bin",
		".ckpt", ".pb", ".tflite", ".npz", ".npy", ".gguf", ".ggml", ".engine", ".plan", ".weights", ".data",
		".params", ".pdparams", ".caffemodel", ".msgpack", ".pkl", ".joblib", ".mar", ".pte":
		return true
	}
	_, part, ok := strings.Cut(name, ".data-")
	return ok && strings.Contains(part, "-of-")
}
