package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Kind is what the code may be that a container takes.
type Kind string

// The kinds that there is code for.
const (
	Python     Kind = "python"     // source with def main(args), or a zip with __main__.py
	Executable Kind = "executable" // a program that speaks ActionLoop, alone or as exec in a zip
	Go         Kind = "go"         // source with func Main, compiled by the container
	Node       Kind = "node"       // source with function main(args)
	Stub       Kind = "stub"       // a program started for each run, its argument the arguments: the docker skeleton
	None       Kind = "none"       // no code: the container has an action of its own
)

// Kinds returns all kinds, in the order in which they are tried.
func Kinds() []Kind { return []Kind{Python, Executable, Go, Node, Stub, None} }

// Config says which container is checked, and how. Exactly one of URL, Exec and Image is
// set.
type Config struct {
	// URL is where one container listens that runs already. It is initialised once, and
	// what it prints is unknown.
	URL string
	// Restart is a command of the shell that puts a fresh container behind URL. Without
	// it only what one container can show is checked.
	Restart string
	// Exec is a command of the shell that runs a container on this machine. The variable
	// PORT is a free port, and so is {port} in the command; a program that listens on 8080
	// whatever it is told is found there.
	Exec string
	// Image is a container image, which the command docker runs.
	Image string
	// Env are the variables of the programs that are started, "name=value" each.
	Env []string
	// Kinds are the kinds of code that the container takes; empty means that they are
	// tried.
	Kinds []Kind
	// Stub says that the container has an action before any /init; it is found out
	// unless it is set.
	Stub bool
	// Match chooses the cases whose number and name, such as "#5 invoke non-standard
	// entry point", it matches. Nil means all.
	Match *regexp.Regexp
	// Timeout is how long one answer, and the start of a container, may take. The
	// default is 30 seconds, which is what OpenWhisk's own suites allow.
	Timeout time.Duration
	// Parallel is how many cases run at once. The default is 1. One at a time is what a
	// container gets anyway that listens on a port of its own choice, or is not restarted.
	Parallel int
	// Interpreter is where python3 is for the container: programs among the actions are
	// Python. Empty means that it is looked for at run time.
	Interpreter string
	// Progress is called with each result in the order of the cases. It may be nil.
	Progress func(Result)
}

// An Outcome is how a case ended.
type Outcome string

// The outcomes of a case.
const (
	Passed        Outcome = "pass"
	Failed        Outcome = "FAIL"
	NotApplicable Outcome = "n.a."
)

// A Result is what one case found.
type Result struct {
	Number  string        `json:"number"`          // such as "#5" or "G3"
	Suite   string        `json:"suite"`           // whose test it is
	Name    string        `json:"name"`            // what must hold
	Kinds   []Kind        `json:"kinds,omitempty"` // it ran with, empty for a case without code
	Outcome Outcome       `json:"outcome"`
	Reason  string        `json:"reason,omitempty"` // what came back and what was wanted; or why it does not apply
	Notes   []string      `json:"notes,omitempty"`  // what was not checked
	Took    time.Duration `json:"nanoseconds"`
}

// A Report is what all cases found.
type Report struct {
	Kinds   []Kind   `json:"kinds"` // that the container takes
	Stub    bool     `json:"stub"`  // it has an action before any /init
	Results []Result `json:"results"`
}

// Count returns how many cases ended so.
func (r *Report) Count(o Outcome) (n int) {
	for i := range r.Results {
		if r.Results[i].Outcome == o {
			n++
		}
	}
	return n
}

// Interrupted returns how many cases did not run, or not to their end, because the run
// was interrupted.
func (r *Report) Interrupted() (n int) {
	for i := range r.Results {
		if r.Results[i].Reason == interrupted {
			n++
		}
	}
	return n
}

// Run checks a container. The error says that the container could not be checked at all:
// the configuration is wrong, or no container started. What a container does wrong is in
// the report.
//
// When ctx ends, no more cases run. The report has them nevertheless, as not applicable
// because of the interruption, and the error is ctx's.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if err := cfg.Check(); err != nil {
		return Report{}, err
	}
	r := &runner{cfg: cfg, target: newTarget(&cfg)}
	defer r.release()
	if err := r.probe(ctx); err != nil && ctx.Err() == nil {
		return Report{}, err
	}
	results := r.runAll(ctx)
	return Report{Kinds: r.traits.kinds, Stub: r.traits.stub, Results: results}, errors.Join(r.fault, ctx.Err())
}

// Check says what is wrong with a configuration, before anything is started.
func (c *Config) Check() error {
	given := 0
	for _, s := range []string{c.URL, c.Exec, c.Image} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("conformance: want one container: a URL, a command or an image")
	case c.Restart != "" && c.URL == "":
		return errors.New("conformance: a restart command is for a URL")
	case c.URL != "":
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Errorf("conformance: %q is no URL; want http://host:port", c.URL)
		}
	}
	if !slices.ContainsFunc(allCases(), c.matches) {
		return fmt.Errorf("conformance: no case matches %q", c.Match)
	}
	return nil
}

// matches says whether a case is asked for.
func (c *Config) matches(t testCase) bool {
	return c.Match == nil || c.Match.MatchString(t.number+" "+t.name)
}

// List returns the cases, without outcomes.
func List() []Result {
	var list []Result
	for _, c := range allCases() {
		list = append(list, Result{Number: c.number, Suite: c.suite, Name: c.name, Kinds: c.kinds, Reason: c.never})
	}
	return list
}

// newTarget returns what starts the containers of a configuration that is right.
func newTarget(cfg *Config) target {
	switch {
	case cfg.Exec != "":
		return &program{command: cfg.Exec, env: cfg.Env, timeout: cfg.Timeout}
	case cfg.Image != "":
		return &image{ref: cfg.Image, env: cfg.Env, timeout: cfg.Timeout}
	}
	return &address{base: strings.TrimSuffix(cfg.URL, "/"), restart: cfg.Restart, env: cfg.Env, timeout: cfg.Timeout}
}
