package deploy

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// RuntimesFamily is the family of our kinds in a platform's runtimes.json.
const RuntimesFamily = "deepfn"

// A StemCell says how many containers of a kind are kept that have loaded the model
// before anybody asks.
type StemCell struct {
	Count  int
	Memory int // MiB
}

// The entry of a kind in runtimes.json (apache/openwhisk, ExecManifest.scala).
type (
	runtimesFile struct {
		Runtimes map[string][]runtimeKind `json:"runtimes"`
	}
	runtimeKind struct {
		Kind       string       `json:"kind"`
		Default    bool         `json:"default"`
		Image      runtimeImage `json:"image"`
		Deprecated bool         `json:"deprecated"`
		Attached   struct {
			Name string `json:"attachmentName"`
			Type string `json:"attachmentType"`
		} `json:"attached"`
		StemCells []runtimeStemCell `json:"stemCells,omitempty"`
	}
	runtimeImage struct {
		Registry string `json:"registry,omitempty"`
		Prefix   string `json:"prefix,omitempty"`
		Name     string `json:"name"`
		Tag      string `json:"tag,omitempty"`
	}
	runtimeStemCell struct {
		InitialCount int    `json:"initialCount"`
		Memory       string `json:"memory"`
	}
)

// RuntimesEntry returns what an operator adds to runtimes.json so that there is a kind
// deepfn:NAME for each function, whose image has the model in it as DEEPFN_MODEL: its
// containers load the model when they start, so that a prewarmed one is warm before its
// /init. The first function's kind is deepfn:default.
func RuntimesEntry(functions []Function, cell StemCell) ([]byte, error) {
	var kinds []runtimeKind
	for i, f := range functions {
		if f.Code != nil {
			return nil, actions.Errorf(actions.Invalid, "%s: a kind is for a model of the image; deploy code as an action", f.Name)
		}
		image, err := parseImage(f.Image)
		if err != nil {
			return nil, err
		}
		kind := runtimeKind{Kind: RuntimesFamily + ":" + f.Model.Name, Default: i == 0, Image: image}
		kind.Attached.Name, kind.Attached.Type = "codefile", "text/plain"
		memory := cell.Memory
		if memory == 0 {
			memory = f.Memory
		}
		if cell.Count > 0 {
			kind.StemCells = []runtimeStemCell{{cell.Count, fmt.Sprintf("%d MB", memory)}}
		}
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 {
		return nil, actions.Errorf(actions.Invalid, "no model is named")
	}
	out, err := json.MarshalIndent(runtimesFile{map[string][]runtimeKind{RuntimesFamily: kinds}}, "", "  ")
	if err != nil {
		return nil, actions.Errorf(actions.Internal, "runtimes.json: %w", err)
	}
	return append(out, '\n'), nil
}

// parseImage reads [REGISTRY/][PREFIX/]NAME[:TAG]. The registry is told from a prefix by a
// '.' or a ':' in it, as by Docker.
func parseImage(ref string) (runtimeImage, error) {
	var image runtimeImage
	path, digest, _ := strings.Cut(ref, "@")
	if digest != "" {
		return image, actions.Errorf(actions.Invalid, "image %s: runtimes.json has no place for a digest; name a tag", ref)
	}
	parts := strings.Split(path, "/")
	if first := parts[0]; len(parts) > 1 && (strings.ContainsAny(first, ".:") || first == "localhost") {
		image.Registry, parts = first, parts[1:]
	}
	last := len(parts) - 1
	image.Prefix = strings.Join(parts[:last], "/")
	image.Name, image.Tag, _ = strings.Cut(parts[last], ":")
	if image.Name == "" {
		return image, actions.Errorf(actions.Invalid, "%q is no name of an image", ref)
	}
	return image, nil
}
