package onnx

import (
	"encoding/json"

	"github.com/deepfn/deepfn/actions"
)

// A Setup is what Program.Start is given, as JSON.
type Setup struct {
	// Spec is the action's onnx section and Arguments its arguments.
	Spec      json.RawMessage
	Arguments []actions.Argument
	// Files are absolute paths by the names that Spec uses. What they hold has been
	// verified.
	Files map[string]string
	// SHA256 are the hashes of Files. A model without one is not cached.
	SHA256 map[string]string
	// Library is the path of libonnxruntime.
	Library string
	// CacheDir is where optimised models are kept, for this user alone. Empty means
	// that there is no cache.
	CacheDir string
	// Threads is how many threads one inference may use. Zero means 1.
	Threads int
	// Device is auto (also when empty), cpu or cuda. With auto a GPU is used when the
	// library and the machine have one.
	Device string
}

// An Info is what Program.Start tells about the loaded model.
type Info struct {
	// Provider is ONNX Runtime's word for where the model runs:
	// "CPUExecutionProvider" or "CUDAExecutionProvider".
	Provider string `json:"provider"`
	// Version is the version of ONNX Runtime.
	Version string `json:"onnxruntime_version"`
	Threads int    `json:"threads"`
	Inputs  []Port `json:"inputs"`
	Outputs []Port `json:"outputs"`
	// LoadSeconds is the time to load the library and the model, WarmSeconds that of
	// the first inference. Warm says that there was one: a model whose inputs have open
	// sizes may refuse the guessed ones.
	LoadSeconds float64 `json:"load_seconds"`
	WarmSeconds float64 `json:"warm_seconds"`
	Warm        bool    `json:"warm"`
	// Cache is hit, miss (optimised now, and kept), off, or "unusable: " and why.
	Cache string `json:"cache"`
}

// A Port is an input or an output of a model, in the words of the Open Inference
// Protocol. A size of -1 is open.
type Port struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

func portsOf(ports []port) []Port {
	out := make([]Port, len(ports))
	for i, p := range ports {
		out[i] = Port{p.name, p.kind.String(), p.shape}
	}
	return out
}
