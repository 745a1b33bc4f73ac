package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// What a session says about the cache.
const (
	cacheOff  = "off"
	cacheHit  = "hit"
	cacheMiss = "miss"
)

// A cache keeps optimised models, because optimising takes as long as loading. The name
// of a file is MODEL-KEY-SUM.onnx. MODEL is the beginning of the model's hash. KEY is a
// hash of all that the optimisation depends on: the model, the version of the library,
// the options, and the processor, since the layout of weights follows its vector
// instructions. SUM is the CRC-32C of the file: a damaged model might load and give wrong
// answers.
//
// Processes share the folder without a lock. A file is written under another name and
// renamed; of two for one key, which are as good, the first by name stays, so that those
// who write them agree. Whoever finds that a file is gone optimises again. The zero value
// is no cache.
type cache struct{ dir, model, key string }

// What tidy leaves in the folder.
const (
	// keptFiles is how many files of a model stay: for other numbers of threads, or the
	// library before this one.
	keptFiles = 4
	// keptUnused is for how long a file stays that nobody has used.
	keptUnused = 30 * 24 * time.Hour
	// keptTemp is for how long an unfinished file stays. Optimising takes seconds.
	keptTemp = time.Hour
)

func newCache(dir, modelSHA, version, options string) cache {
	if dir == "" || modelSHA == "" {
		return cache{}
	}
	h := sha256.New()
	for _, part := range []string{modelSHA, version, options, runtime.GOARCH, processor()} {
		h.Write(fmt.Appendf(nil, "%d:%s,", len(part), part))
	}
	model := sha256.Sum256([]byte(modelSHA))
	return cache{dir, hex.EncodeToString(model[:8]), hex.EncodeToString(h.Sum(nil))}
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

// prefix is what the names of the key's files begin with.
func (c cache) prefix() string { return c.model + "-" + c.key + "-" }

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
		sum, ok := strings.CutPrefix(e.Name(), c.prefix())
		if !ok || !strings.HasSuffix(sum, ".onnx") {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		if got, err := checksum(path); err == nil && got+".onnx" == sum {
			now := time.Now()
			_ = os.Chtimes(path, now, now) // it may go sooner without
			c.tidy(now)
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
	f, err := os.CreateTemp(c.dir, c.prefix()+"*.tmp")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// keep names a written file after its content. It returns what to say about the cache.
func (c cache) keep(temp string) string {
	sum, err := checksum(temp)
	if err == nil {
		err = os.Rename(temp, filepath.Join(c.dir, c.prefix()+sum+".onnx"))
	}
	if err != nil {
		c.discard(temp)
		return "unusable: " + err.Error()
	}
	c.tidy(time.Now())
	return cacheMiss
}

// tidy removes what nobody needs: second files of the key, unfinished files of processes
// that were killed, files of any model that were not used for long, and of this model
// those that were used the longest ago.
func (c cache) tidy(now time.Time) {
	entries, err := os.ReadDir(c.dir) // sorted by name
	if err != nil {
		return
	}
	var others []fs.FileInfo // of this model
	mine := false
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || strings.Count(info.Name(), "-") != 2 {
			continue // another process was faster, or it is not ours
		}
		age, finished := now.Sub(info.ModTime()), strings.HasSuffix(info.Name(), ".onnx")
		switch {
		case !finished && strings.HasSuffix(info.Name(), ".tmp") && age > keptTemp,
			finished && age > keptUnused,
			finished && mine && strings.HasPrefix(info.Name(), c.prefix()):
			c.discard(filepath.Join(c.dir, info.Name()))
		case finished && strings.HasPrefix(info.Name(), c.prefix()):
			mine = true
		case finished && strings.HasPrefix(info.Name(), c.model+"-"):
			others = append(others, info)
		}
	}
	slices.SortStableFunc(others, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, info := range others[min(len(others), keptFiles-1):] {
		c.discard(filepath.Join(c.dir, info.Name()))
	}
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
