package onnx

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// minVersion is the oldest ONNX Runtime whose interface is the one that is called.
func minVersion() (major, minor int) { return 1, 24 }

// LibraryVersion returns the version of the ONNX Runtime library at path, as "1.27.0",
// without loading it. It is empty when the library does not say. A library that is
// missing or too old is an error that says what to do.
func LibraryVersion(path string) (string, error) {
	major, minor := minVersion()
	if path == "" {
		return "", fmt.Errorf("no libonnxruntime is configured; give the path of one, version %d.%d or later", major, minor)
	}
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("libonnxruntime not found at %s; install ONNX Runtime %d.%d or later and give its path", path, major, minor)
		}
		return "", err
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s is not a shared library: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	// Its symbols carry the version, as OrtGetApiBase@VERS_1.27.0.
	versions, err := f.DynamicVersions()
	if err != nil {
		return "", fmt.Errorf("%s is not libonnxruntime: %w", path, err)
	}
	version := ""
	for _, v := range versions {
		if s, ok := strings.CutPrefix(v.Name, "VERS_"); ok {
			version = s
		}
	}
	return version, recent(path, version)
}

// recent says what to do about a version that is too old.
func recent(path, version string) error {
	major, minor := minVersion()
	if version != "" && older(version, major, minor) {
		return fmt.Errorf("libonnxruntime at %s is version %s; version %d.%d or later is needed; leave --onnxruntime out and the right one is fetched", path, version, major, minor)
	}
	return nil
}

func older(version string, major, minor int) bool {
	part := strings.SplitN(version, ".", 3)
	if len(part) < 2 {
		return false
	}
	a, errA := strconv.Atoi(part[0])
	b, errB := strconv.Atoi(part[1])
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

// openLibrary loads the library, which a process can do once. It returns its version.
func openLibrary(path string) (string, error) {
	if ort.IsInitialized() {
		return ort.GetVersion(), nil
	}
	if _, err := LibraryVersion(path); err != nil {
		return "", err
	}
	ort.SetSharedLibraryPath(path)
	// Errors are returned. What the library would print besides says the same.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		major, minor := minVersion()
		return "", fmt.Errorf("libonnxruntime at %s (it must be version %d.%d or later) cannot be loaded: %w", path, major, minor, err)
	}
	return ort.GetVersion(), nil
}
