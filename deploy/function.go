package deploy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// A Deployment is what is to be there.
type Deployment struct {
	// Package is the package of all of it; empty means none.
	Package   string
	Functions []Function
	Sequences []Sequence
	// Image is the image of new actions whose Options name none.
	Image string
	// Release is the version of deepfn, for the annotation.
	Release string
}

// A Function is one action that a model is behind.
type Function struct {
	// Name is the action's, without the package.
	Name string
	// Model describes it. Without Code it is a model that the image holds, by its name.
	Model actions.Model
	// Code is a source, an archive or a program. Nil means that Model names it.
	Code []byte
	// File is where Code comes from, for a manifest; may be empty.
	File string
	// Memory is how many MiB it is thought to need.
	Memory int
	Options
}

// A Sequence is an action that runs others, each on the result of the one before.
type Sequence struct {
	Name string
	// Components are Names of Functions of the same Deployment, or names of actions that
	// are there: name, package/name or /namespace/[package/]name.
	Components []string
	Options
}

// Options are what can be said of one action. What is zero is left as it is there, and in
// a new action is the default that stands here.
type Options struct {
	// Image is the image, with a tag; the default is Deployment.Image.
	Image string
	// Kind is a kind of the platform to use instead of an image.
	Kind string
	// Main is the entry point. The default is predict.
	Main string
	// Limits are what one activation may use. The default is Function.Memory, 5 minutes and
	// for the rest what the platform says; all of it is cut to what the platform allows.
	Limits Limits
	// Web is Yes, Raw, No or empty.
	Web string
	// Secret is what a caller of the web action has to send as X-Require-Whisk-Auth: a
	// text; "true" for a number that is made up, unless there is one; "false" for none.
	Secret string
	// Parameters and Annotations are set, beside those that are there. A sequence has no
	// Parameters.
	Parameters, Annotations whisk.KeyValues
}

// The values of Options.Web.
const (
	Yes = "yes"
	Raw = "raw"
	No  = "no"
)

// Limits are those of an action. Zero leaves a limit as it is; Logs is nil for that,
// because no logs at all is a limit too.
type Limits struct {
	Timeout     int  // milliseconds
	Memory      int  // MiB
	Logs        *int // MiB
	Concurrency int
}

// defaultTimeoutMillis is the default of Limits.Timeout: a model is loaded within it at
// the first call.
const defaultTimeoutMillis = 5 * 60 * 1000

// code is what goes into exec.code.
func (f Function) code() (text string, binary bool) {
	if f.Code == nil {
		doc, _ := json.Marshal(map[string]string{"model": f.Model.Name}) // of a text: cannot be an error
		return string(doc), false
	}
	source := string(f.Code)
	if utf8.ValidString(source) && !strings.ContainsRune(source, 0) && !looksBinary(source) {
		return source, false
	}
	return base64.StdEncoding.EncodeToString(f.Code), true
}

// looksBinary says whether OpenWhisk would take a source for base64: it decides by the
// text alone (Exec.scala, isBinaryCode).
func looksBinary(source string) bool {
	text := strings.TrimSpace(source)
	if len(text) == 0 || len(text)%4 != 0 {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(text)
	return err == nil
}

// An origin is the annotation deepfn: what was deployed.
type origin struct {
	Release      string `json:"release"`
	Model        string `json:"model,omitempty"`
	ModelVersion string `json:"model_version,omitempty"`
	SHA256       string `json:"sha256,omitempty"`
	// Code says that it came with the action, not with the image.
	Code bool `json:"code,omitempty"`
}

// originOf reads the annotation of an action.
func originOf(annotations whisk.KeyValues) (o origin, ok bool) {
	raw := annotations.Lookup(originAnnotation)
	ok = raw != nil && json.Unmarshal(raw, &o) == nil
	return o, ok
}

// originAnnotation is the name of the annotation.
const originAnnotation = "deepfn"

func (f Function) origin(release string) origin {
	h := sha256.New()
	doc, _ := json.Marshal(f.Model) // of plain members: cannot be an error
	_, _ = h.Write(doc)             // a hash takes everything
	_, _ = h.Write(f.Code)
	return origin{
		Release: release, Model: f.Model.Name, ModelVersion: f.Model.Version, SHA256: hex.EncodeToString(h.Sum(nil)),
		Code: f.Code != nil,
	}
}

// annotations are those that a function has of itself.
func (f Function) annotations(release string) whisk.KeyValues {
	var kv whisk.KeyValues
	if text := f.description(); text != "" {
		kv = append(kv, pair("description", text))
	}
	if params := describe(f.Model.Arguments); len(params) > 0 {
		kv = append(kv, pair("parameters", params))
	}
	return append(kv, pair(originAnnotation, f.origin(release)))
}

func (f Function) description() string {
	if f.Model.Title != "" {
		return f.Model.Title
	}
	return f.Model.Description
}

// A parameter describes an argument as 'wsk action get --summary' shows it.
type parameter struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Type        string `json:"type,omitempty"`
	Required    bool   `json:"required,omitempty"`
}

func describe(arguments []actions.Argument) []parameter {
	var params []parameter
	for _, a := range arguments {
		params = append(params, parameter{a.Name, a.Description, string(a.Type), a.Required})
	}
	return params
}

// pair is a KeyValue of a value that is JSON for sure.
func pair(key string, value any) whisk.KeyValue {
	raw, _ := json.Marshal(value) // only plain values come here
	return whisk.KeyValue{Key: key, Value: raw}
}
