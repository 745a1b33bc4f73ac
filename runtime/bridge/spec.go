package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	defaultPort = 5000
	defaultHost = "127.0.0.1"
	portMark    = "{port}"
)

// A Spec is the section "http" of an action.
type Spec struct {
	// Command starts the server. A program without a slash is looked up in the action's
	// folder, then in PATH. Empty means that the server runs already.
	Command []string `json:"command,omitempty"`
	// Port is where the server listens. The default is a free port if "{port}" stands in
	// Command or Env, where it is replaced, else 5000; 0 means a free port.
	Port *int `json:"port,omitempty"`
	// Host is where the server listens, 127.0.0.1 by default.
	Host string `json:"host,omitempty"`
	// BasePath is what the server's routes have before /v2/.
	BasePath string `json:"base_path,omitempty"`
	// Model is the server's name for the model. It may be empty if there is one.
	Model string `json:"model,omitempty"`
	// Ready is how long the server may take to start, as "10m". The default is the
	// deadline of the start.
	Ready string `json:"ready,omitempty"`
	// Watchdog is how long the server may take to answer, as "2m". The default is the
	// deadline of the request.
	Watchdog string `json:"watchdog,omitempty"`
	// WorkingDir is the folder that the server runs in, absolute or in the action's
	// folder, which is the default.
	WorkingDir string `json:"working_dir,omitempty"`
	// Env are variables of its environment.
	Env map[string]string `json:"env,omitempty"`
}

// ParseSpec reads the section of an action, as JSON. An error is an *actions.Error with
// the code Invalid that names the key.
func ParseSpec(raw json.RawMessage) (Spec, error) {
	var s Spec
	err := actions.DecodeStrict(raw, &s)
	if err == nil {
		err = s.validate()
	}
	if err != nil {
		return Spec{}, actions.Errorf(actions.Invalid, "http: %w", err)
	}
	return s, nil
}

// Check reads the spec of an action and compares it with the action. An error is an
// *actions.Error with the code Invalid.
func Check(m actions.Model) error {
	s, err := ParseSpec(m.Spec)
	if err != nil {
		return err
	}
	if m.Dir == "" && s.WorkingDir != "" && !filepath.IsAbs(s.WorkingDir) {
		return actions.Errorf(actions.Invalid, "http: an action that has no folder has no folders in it")
	}
	return nil
}

func (s *Spec) validate() error {
	switch {
	case len(s.Command) > 0 && s.Command[0] == "":
		return errors.New("command: the program's name is missing")
	case slices.ContainsFunc(slices.Concat(s.Command, []string{s.WorkingDir}), func(arg string) bool { return strings.Contains(arg, "\x00") }):
		return errors.New("command: nothing has a zero byte")
	case s.Port != nil && (*s.Port < 0 || *s.Port > 65535):
		return fmt.Errorf("port: %d is not between 0 and 65535", *s.Port)
	case len(s.Command) == 0 && s.wantsPort():
		return errors.New("port: without a command a port cannot be chosen")
	case len(s.Command) > 0 && s.Port != nil && *s.Port == 0 && !s.marksPort():
		return errors.New("port: a free port can only be chosen if {port} stands in command or env")
	case strings.ContainsAny(s.Host, "/@?# "):
		return fmt.Errorf("host: %q is not a name or an address", s.Host)
	case strings.ContainsAny(s.BasePath, "?#%") || strings.ContainsFunc(s.BasePath, func(r rune) bool { return r <= ' ' }):
		return fmt.Errorf("base_path: %q is not a path", s.BasePath)
	case s.Model == "." || s.Model == "..":
		return fmt.Errorf("model: %q is not a name", s.Model)
	case s.WorkingDir != "" && !filepath.IsAbs(s.WorkingDir) && !filepath.IsLocal(s.WorkingDir):
		return fmt.Errorf("working_dir: %q is neither absolute nor in the action's folder", s.WorkingDir)
	}
	if _, err := duration("ready", s.Ready); err != nil {
		return err
	}
	if _, err := duration("watchdog", s.Watchdog); err != nil {
		return err
	}
	return actions.CheckEnv(s.Env)
}

// duration reads a time that may be absent, which is 0.
func duration(key, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is not a time such as 2m", key, text)
	}
	return d, nil
}

// marksPort reports whether there is a place for a port that was chosen.
func (s *Spec) marksPort() bool {
	if slices.ContainsFunc(s.Command, func(arg string) bool { return strings.Contains(arg, portMark) }) {
		return true
	}
	for _, value := range s.Env {
		if strings.Contains(value, portMark) {
			return true
		}
	}
	return false
}

// wantsPort reports whether a port is to be chosen.
func (s *Spec) wantsPort() bool {
	if s.Port != nil {
		return *s.Port == 0
	}
	return s.marksPort()
}

// port returns the port that is not to be chosen.
func (s *Spec) port() int {
	if s.Port != nil {
		return *s.Port
	}
	return defaultPort
}
