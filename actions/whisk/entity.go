package whisk

import (
	"bytes"
	"encoding/json"
)

// A KeyValue is a parameter or an annotation.
type KeyValue struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	// Init says of a parameter that it is for /init: a variable of the environment.
	Init bool `json:"init,omitempty"`
}

// KeyValues are parameters or annotations. Nil marshals as [].
type KeyValues []KeyValue

// Lookup returns the value of a key, nil without one.
func (kv KeyValues) Lookup(key string) json.RawMessage {
	for _, pair := range kv {
		if pair.Key == key {
			return pair.Value
		}
	}
	return nil
}

// Truthy says whether a key has a value that is neither false, 0, "" nor null.
func (kv KeyValues) Truthy(key string) bool {
	switch string(kv.Lookup(key)) {
	case "", "null", "false", "0", `""`:
		return false
	}
	return true
}

// MarshalJSON writes a list, never null.
func (kv KeyValues) MarshalJSON() ([]byte, error) {
	if kv == nil {
		return []byte("[]"), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // that is up to who writes the whole
	err := e.Encode([]KeyValue(kv))
	return b.Bytes(), err
}

// The kinds of an Exec that are no managed runtime.
const (
	Blackbox = "blackbox"
	Sequence = "sequence"
)

// An Exec is what an action runs.
type Exec struct {
	// Kind is "family:version", Blackbox or Sequence.
	Kind string `json:"kind"`
	// Code is source, or base64 of a binary; nil when there is none or it was not asked
	// for.
	Code *string `json:"code,omitempty"`
	// Image is the image of a Blackbox.
	Image string `json:"image,omitempty"`
	// Main is the entry point, empty for the kind's own.
	Main string `json:"main,omitempty"`
	// Binary says that Code is base64.
	Binary bool `json:"binary"`
	// Components are the full names of the actions of a Sequence.
	Components []string `json:"components,omitempty"`
}

// Limits bound one activation.
type Limits struct {
	Timeout     int `json:"timeout"` // milliseconds
	Memory      int `json:"memory"`  // MiB
	Logs        int `json:"logs"`    // MiB
	Concurrency int `json:"concurrency"`
}

// An Action is what the API shows of an action.
type Action struct {
	Namespace   string    `json:"namespace"` // namespace[/package]
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Publish     bool      `json:"publish"`
	Exec        Exec      `json:"exec"`
	Parameters  KeyValues `json:"parameters"`
	Annotations KeyValues `json:"annotations"`
	Limits      Limits    `json:"limits"`
	Updated     int64     `json:"updated"` // milliseconds since 1970
}

// A Trigger is what the API shows of a trigger.
type Trigger struct {
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Publish     bool      `json:"publish"`
	Parameters  KeyValues `json:"parameters"`
	Annotations KeyValues `json:"annotations"`
	Limits      struct{}  `json:"limits"`
	Updated     int64     `json:"updated"`
	// Rules are the rules of the trigger by their full name, namespace/rule.
	Rules map[string]TriggerRule `json:"rules,omitempty"`
}

// A TriggerRule is a rule as its trigger shows it.
type TriggerRule struct {
	Action PathName `json:"action"`
	Status string   `json:"status"`
}

// A PathName names an entity in two parts.
type PathName struct {
	Path string `json:"path"` // namespace[/package]
	Name string `json:"name"`
}

// The statuses of a rule.
const (
	Active   = "active"
	Inactive = "inactive"
)

// A Rule is what the API shows of a rule.
type Rule struct {
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Publish     bool      `json:"publish"`
	Status      string    `json:"status,omitempty"` // not in a list
	Trigger     PathName  `json:"trigger"`
	Action      PathName  `json:"action"`
	Annotations KeyValues `json:"annotations"`
	Updated     int64     `json:"updated"`
}

// A Binding says which package a package stands for. The zero value, which marshals as
// {}, is none.
type Binding struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// A Package is what the API shows of a package.
type Package struct {
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Publish     bool      `json:"publish"`
	Parameters  KeyValues `json:"parameters"`
	Annotations KeyValues `json:"annotations"`
	Binding     Binding   `json:"binding"`
	Updated     int64     `json:"updated"`
	// Actions and Feeds are what is in it; nil in a list.
	Actions *[]PackageAction `json:"actions,omitempty"`
	Feeds   *[]PackageAction `json:"feeds,omitempty"`
}

// A PackageAction is an action as its package shows it.
type PackageAction struct {
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Annotations KeyValues `json:"annotations"`
}
