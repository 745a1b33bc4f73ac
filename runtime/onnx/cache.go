package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// What a session says about the cache.
const (
	cacheOff  = "off"
	cacheHit  = "hit"
	cacheMiss = "miss"
)

// A cache keeps optimised models, because optimising takes as long as loading. The name
// of a file is KEY-SUM.onnx. The key is a hash of all that the optimisation depends on:
// the model, the version of the library, the options, and the processor, since the
// layout of weights follows its vector instructions. SUM is the CRC-32C of the file: a
// damaged model might load and give wrong answers.
//
// Files are written under another name and renamed, so that processes can share the
// folder. The zero value is no cache.
type cache struct{ dir, key string }

func newCache(dir, modelSHA, version, options string) cache {
	if dir == "" || modelSHA == "" {
		return cache{}
	}
	h := sha256.New()
	for _, part := range []string{modelSHA, version, options, runtime.GOARCH, processor()} {
		h.Write(fmt.Appendf(nil, "%d:%s,", len(part), part))
	}
	return cache{dir, hex.EncodeToString(h.Sum(nil))}
}

// processor returns the line of flags of the first processor.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // it was only read
	head, err := io.ReadAll(io.LimitReader(f, 8192))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(head)) {
		if strings.HasPrefix(line, "flags") || strings.HasPrefix(line, "Features") {
			return line
		}
	}
	return ""
}

func (c cache) enabled() bool { return c.key != "" }

// find returns an undamaged file and removes damaged ones.
func (c cache) find() (path string, ok bool) {
	if !c.enabled() {
		return "", false
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		sum, ok := strings.CutPrefix(e.Name(), c.key+"-")
		if !ok || !strings.HasSuffix(sum, ".onnx") {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		if got, err := checksum(path); err == nil && got+".onnx" == sum {
			return path, true
		}
		c.discard(path)
	}
	return "", false
}

func (c cache) temp() (string, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(c.dir, c.key+"-*.tmp")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// keep names a written file after its content. It returns what to say about the cache.
func (c cache) keep(temp string) string {
	sum, err := checksum(temp)
	if err == nil {
		err = os.Rename(temp, filepath.Join(c.dir, c.key+"-"+sum+".onnx"))
	}
	if err != nil {
		c.discard(temp)
		return "unusable: " + err.Error()
	}
	return cacheMiss
}

// discard removes a file. Where that fails, the next start tries again.
func (c cache) discard(path string) {
	_ = os.Remove(path)
}

func checksum(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // it lies in the folder of the cache
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%08x", h.Sum32()), nil
}
