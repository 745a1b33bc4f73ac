package actionloop

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

// defaultSettle is the time in which a program that cannot run at all has usually said so.
const defaultSettle = 100 * time.Millisecond

// A Spec is the section "executable" of an action. Either Path or Command is set.
type Spec struct {
	// Path is an executable in the action's folder.
	Path string `json:"path,omitempty"`
	// Command is a program and its arguments. A program without a slash is looked up in
	// the action's folder, then in PATH.
	Command []string `json:"command,omitempty"`
	// Ack says that the program writes {"ok":true} when it is ready, which the start then
	// waits for. The program is told to by __OW_WAIT_FOR_ACK in its environment.
	Ack bool `json:"ack,omitempty"`
	// Settle is how long a program without Ack must have run to count as started, as
	// "100ms", which is the default.
	Settle string `json:"settle,omitempty"`
	// WorkingDir is the folder that the program runs in, absolute or in the action's
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
		return Spec{}, actions.Errorf(actions.Invalid, "executable: %w", err)
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
	if m.Dir == "" && (s.Path != "" || s.WorkingDir != "" && !filepath.IsAbs(s.WorkingDir)) {
		return actions.Errorf(actions.Invalid, "executable: an action that has no folder has no files in it")
	}
	return nil
}

func (s *Spec) validate() error {
	switch {
	case (s.Path == "") == (len(s.Command) == 0):
		return errors.New("say either path or command")
	case s.Path != "" && !filepath.IsLocal(s.Path):
		return fmt.Errorf("path: %q is not in the action's folder", s.Path)
	case len(s.Command) > 0 && s.Command[0] == "":
		return errors.New("command: the program's name is missing")
	case slices.ContainsFunc(slices.Concat(s.Command, []string{s.Path, s.WorkingDir}), func(arg string) bool { return strings.Contains(arg, "\x00") }):
		return errors.New("command: nothing has a zero byte")
	case s.WorkingDir != "" && !filepath.IsAbs(s.WorkingDir) && !filepath.IsLocal(s.WorkingDir):
		return fmt.Errorf("working_dir: %q is neither absolute nor in the action's folder", s.WorkingDir)
	}
	if _, err := s.settle(); err != nil {
		return err
	}
	return actions.CheckEnv(s.Env)
}

func (s *Spec) settle() (time.Duration, error) {
	if s.Settle == "" {
		return defaultSettle, nil
	}
	d, err := time.ParseDuration(s.Settle)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("settle: %q is not a time such as 100ms", s.Settle)
	}
	return d, nil
}

// argv returns the program and its arguments. A Path is in the folder, never in PATH.
func (s *Spec) argv() []string {
	if s.Path != "" {
		return []string{"./" + filepath.Clean(s.Path)}
	}
	return s.Command
}
