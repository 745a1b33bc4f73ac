package launcher

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// files is the Python side.
//
//go:embed deepfn_launcher/*.py
var files embed.FS

// packageName is the folder of the Python side, and its name for import.
const packageName = "deepfn_launcher"

// embedded returns the files of the Python side by name, and a hash of them all.
func embedded() (map[string][]byte, string, error) {
	entries, err := files.ReadDir(packageName)
	if err != nil {
		return nil, "", err
	}
	contents := make(map[string][]byte, len(entries))
	hash := sha256.New()
	for _, e := range entries { // sorted by name
		b, err := files.ReadFile(packageName + "/" + e.Name())
		if err != nil {
			return nil, "", err
		}
		contents[e.Name()] = b
		_, _ = fmt.Fprintf(hash, "%s %d\n%s", e.Name(), len(b), b)
	}
	return contents, hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// unpack returns a folder in dir that holds the Python side and nothing else. Several
// processes may do so at the same time: the folder is made complete under another name.
// One with other contents, as after a disk was full, is replaced.
func unpack(dir string) (string, error) {
	contents, hash, err := embedded()
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "launcher-"+hash)
	if same(name, contents) {
		return name, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // others read it
		return "", err
	}
	temp, err := os.MkdirTemp(dir, ".launcher-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := write(filepath.Join(temp, "new"), contents); err != nil {
		return "", err
	}
	// Twice, because another process may do the same between the two steps.
	for range 2 {
		if err = os.Rename(filepath.Join(temp, "new"), name); err == nil || same(name, contents) {
			return name, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
		_ = os.Rename(name, filepath.Join(temp, "old"))
	}
	return "", err
}

// same says whether the Python side lies in the folder as it should.
func same(name string, contents map[string][]byte) bool {
	for file, want := range contents {
		got, err := os.ReadFile(filepath.Join(name, packageName, file)) //nolint:gosec // a name of ours
		if err != nil || !bytes.Equal(got, want) {
			return false
		}
	}
	// Nothing else may be imported from there.
	entries, err := os.ReadDir(name)
	return err == nil && len(entries) == 1
}

// write makes the folder with the Python side.
func write(name string, contents map[string][]byte) error {
	if err := os.MkdirAll(filepath.Join(name, packageName), 0o755); err != nil { //nolint:gosec // others read it
		return err
	}
	if err := os.Chmod(name, 0o755); err != nil { //nolint:gosec // others read it
		return err
	}
	for file, b := range contents {
		if err := os.WriteFile(filepath.Join(name, packageName, file), b, 0o644); err != nil { //nolint:gosec // others read it
			return err
		}
	}
	return nil
}
