package command

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/deepfn/deepfn/actions"
)

// defaultMaxPayload is that of a worker.
const defaultMaxPayload = 64 << 20

// A Setup is what the Start of a child that runs a program of others is given, as JSON.
type Setup struct {
	// Spec is the action's section.
	Spec json.RawMessage `json:"spec"`
	// Dir is the absolute path of the action's folder; empty for an action without one.
	Dir string `json:"dir,omitempty"`
	// Env are variables that hide those of Spec: those of an /init.
	Env map[string]string `json:"env,omitempty"`
	// MaxPayload is the most bytes of an answer, the MaxPayload of the worker. Zero means
	// 64 MiB.
	MaxPayload int64 `json:"max_payload,omitempty"`
}

// NewSetup returns the setup of a model for a worker that takes so many bytes.
func NewSetup(m actions.Model, maxPayload int64) Setup {
	return Setup{Spec: m.Spec, Dir: m.Dir, Env: m.Env, MaxPayload: maxPayload}
}

// ParseSetup reads a Setup and sets its defaults. Variables that no program can have it
// leaves out, and prints which: that goes to the log of the first call.
func ParseSetup(raw json.RawMessage) (Setup, error) {
	var s Setup
	if err := actions.DecodeStrict(raw, &s); err != nil {
		return Setup{}, fmt.Errorf("setup: %w", err)
	}
	var wrong []error
	s.Env, wrong = actions.PossibleEnv(s.Env)
	for _, err := range wrong {
		_, _ = fmt.Fprintf(os.Stderr, "deepfn: a variable of the /init is left out: %v\n", err)
	}
	if s.MaxPayload <= 0 {
		s.MaxPayload = defaultMaxPayload
	}
	return s, nil
}
