package deploy

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// An Estimate is what is known of the size of a model.
type Estimate struct {
	// Weights are the bytes of the files that hold them.
	Weights int64
	// Unknown says that some are not here.
	Unknown bool
}

// What an action needs beside its weights, in MiB, rounded up from what was measured of the
// shipped models (docs/openwhisk.md says how).
const (
	baseONNX      = 192  // the front, the engine and its library
	baseFunction  = 128  // the front and an interpreter
	basePackages  = 512  // one with numpy and its like
	baseFramework = 2048 // one with PyTorch, TensorFlow or JAX
	memoryStep    = 64
)

// Memory is how many MiB the action of a model is thought to need: three times its weights,
// because they are read, converted and worked with, and what its runtime takes.
// requirements are the packages of a Python model; packages says that it has an environment
// of its own whose packages are not known.
func (e Estimate) Memory(m actions.Model, requirements []string, packages bool) int {
	base := baseFunction
	switch {
	case m.Runtime == actions.ONNX:
		base = baseONNX
	case m.Runtime == actions.HTTP, slices.ContainsFunc(requirements, isFramework):
		base = baseFramework
	case len(requirements) > 0:
		base = basePackages
	case packages:
		base = baseFramework
	}
	if e.Unknown {
		base += 256
	}
	need := base + int((3*e.Weights+1<<20-1)>>20)
	return (need + memoryStep - 1) / memoryStep * memoryStep
}

// isFramework says whether a requirement is one of the packages that take gigabytes.
func isFramework(requirement string) bool {
	name := strings.ToLower(requirement)
	if end := strings.IndexAny(name, " =<>!~[;@"); end >= 0 {
		name = name[:end]
	}
	return slices.Contains([]string{"torch", "tensorflow", "tensorflow-cpu", "jax", "keras", "paddlepaddle", "mxnet"}, name)
}

// isWeights says whether a file holds weights, by its name.
func isWeights(name string) bool {
	return slices.Contains([]string{
		".onnx", ".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".h5", ".hdf5", ".keras", ".pb", ".tflite",
		".pkl", ".joblib", ".npz", ".npy", ".params", ".caffemodel", ".weights", ".model",
	}, strings.ToLower(filepath.Ext(name)))
}

// WeightsIn adds up the files in a folder that hold weights, as far as the folder can be
// read. Folders whose name begins with '.' are passed over.
func WeightsIn(fsys fs.FS) int64 {
	var sum int64
	_ = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil: // what cannot be read is not counted
			return nil //nolint:nilerr // the sum is an estimate
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.Type().IsRegular() && isWeights(d.Name()):
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
