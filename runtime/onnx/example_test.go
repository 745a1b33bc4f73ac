package onnx_test

import (
	"encoding/json"
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx"
)

// An action is checked before anything is loaded.
func ExampleCheck() {
	err := onnx.Check(actions.Model{
		Name:      "flowers",
		Arguments: []actions.Argument{{Name: "photo", Type: actions.TypeFile}},
		Files:     map[string]actions.ModelFile{"model": {Path: "flowers.onnx"}},
		Spec: json.RawMessage(`{
			"model": "model",
			"inputs": {"x": {"image": {"argument": "picture"}}},
			"output": {"classification": {"labels": ["rose", "tulip"]}}
		}`),
	})
	fmt.Println(err)
	// Output: onnx: inputs: x: the action has no argument "picture"
}
