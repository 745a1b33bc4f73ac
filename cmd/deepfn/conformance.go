package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy/conformance"
)

func conformanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Checks whether a container keeps its platform's contract",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(openWhiskConformanceCommand())
	return cmd
}

func openWhiskConformanceCommand() *cobra.Command {
	var c conformanceRun
	cmd := &cobra.Command{
		Use:   "openwhisk (--exec COMMAND | --image REF | --url URL [--restart COMMAND])",
		Short: "Checks an action container of OpenWhisk, any",
		Long: "Runs the cases of OpenWhisk's own suites, and cases of what they do not look at, against an\n" +
			"action container, and prints for each whether it holds; with what came back and what was wanted\n" +
			"when it does not, and with the reason when it does not apply. The exit code is 1 when one fails.\n\n" +
			"A COMMAND is run by the shell, each time in a new folder, with a free port in PORT and for {port};\n" +
			"a program that listens on 8080 whatever it is told is found there.",
		Example: "  deepfn conformance openwhisk --exec 'deepfn serve'\n" +
			"  deepfn conformance openwhisk --image openwhisk/action-python-v3.11 --junit report.xml\n" +
			"  deepfn conformance openwhisk --url http://127.0.0.1:8080",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&c.cfg.URL, "url", "", "a container that runs; it is initialised once, and its logs are unknown")
	flags.StringVar(&c.cfg.Restart, "restart", "", "command that puts a fresh container behind the URL")
	flags.StringVar(&c.cfg.Exec, "exec", "", "command that runs a container on this machine")
	flags.StringVar(&c.cfg.Image, "image", "", "container image, run with the command docker")
	flags.StringSliceVar(&c.kinds, "kind", []string{"auto"}, "what code the container takes: auto, "+kindNames())
	flags.BoolVar(&c.cfg.Stub, "stub", false, "the container has an action before any /init (found out unless set)")
	flags.StringVar(&c.match, "run", "", "only cases whose number and name match this regular expression")
	flags.DurationVar(&c.cfg.Timeout, "timeout", 30*time.Second, "the most time for one answer, and for the start of a container")
	flags.IntVar(&c.cfg.Parallel, "parallel", 1, "cases at once")
	flags.StringVar(&c.cfg.Interpreter, "container-python", "", "where python3 is in the container, for actions that are programs (default: looked for)")
	flags.StringVar(&c.junit, "junit", "", "file for the results as JUnit XML")
	flags.StringVar(&c.json, "json", "", "file for the results as JSON")
	flags.BoolVar(&c.list, "list", false, "list the cases and run none")
	return cmd
}

func kindNames() string {
	var names []string
	for _, k := range conformance.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// A conformanceRun is one run of the command.
type conformanceRun struct {
	cfg         conformance.Config
	kinds       []string
	match       string
	junit, json string
	list        bool
}

func (c *conformanceRun) run(cmd *cobra.Command) error {
	if err := c.resolve(); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if c.list {
		return c.printList(out)
	}
	var printed error
	c.cfg.Env = os.Environ()
	c.cfg.Progress = func(r conformance.Result) { printed = errors.Join(printed, r.WriteRow(out)) }
	if err := conformance.WriteHead(out); err != nil {
		return err
	}
	report, err := conformance.Run(cmd.Context(), c.cfg)
	if err != nil && len(report.Results) == 0 {
		return actions.Errorf(actions.Unavailable, "%w", err)
	}
	wrong := errors.Join(printed, report.WriteSummary(out), writeReport(c.junit, report.WriteJUnit), writeReport(c.json, report.WriteJSON))
	switch n := report.Interrupted(); {
	case n > 0:
		return errors.Join(actions.Errorf(actions.Failed, "interrupted: %d of %d cases did not run", n, len(report.Results)), wrong)
	case err != nil && cmd.Context().Err() == nil: // of the only container
		return errors.Join(actions.Errorf(actions.Unavailable, "%w", err), wrong)
	}
	err = wrong
	if failed := report.Count(conformance.Failed); err == nil && failed > 0 {
		return actions.Errorf(actions.Failed, "%d of the cases that apply fail", failed)
	}
	return err
}

// resolve checks the flags.
func (c *conformanceRun) resolve() error {
	given := 0
	for _, s := range []string{c.cfg.URL, c.cfg.Exec, c.cfg.Image} {
		if s != "" {
			given++
		}
	}
	if given != 1 && !c.list {
		return usageError{errors.New("conformance openwhisk: want one of --exec, --image and --url")}
	}
	if c.cfg.Restart != "" && c.cfg.URL == "" {
		return usageError{errors.New("--restart is for --url")}
	}
	for _, name := range c.kinds {
		kind := conformance.Kind(name)
		switch {
		case name == "auto" && len(c.kinds) == 1:
		case slices.Contains(conformance.Kinds(), kind):
			c.cfg.Kinds = append(c.cfg.Kinds, kind)
		default:
			return usageError{fmt.Errorf("--kind %s: want auto, or some of %s", name, kindNames())}
		}
	}
	if c.match != "" {
		match, err := regexp.Compile(c.match)
		if err != nil {
			return usageError{fmt.Errorf("--run %s: %w", c.match, err)}
		}
		c.cfg.Match = match
	}
	if c.list {
		return nil
	}
	if err := c.cfg.Check(); err != nil {
		return usageError{err}
	}
	return nil
}

// printList prints the cases that --run matches.
func (c *conformanceRun) printList(out io.Writer) error {
	for _, r := range conformance.List() {
		if c.cfg.Match != nil && !c.cfg.Match.MatchString(r.Number+" "+r.Name) {
			continue
		}
		if _, err := fmt.Fprintf(out, "%-4s  %-21s  %s\n", r.Number, r.Suite, r.Name); err != nil {
			return err
		}
	}
	return nil
}

// writeReport writes a report into the file that the user named, if any.
func writeReport(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name) //nolint:gosec // the file that the user named
	if err != nil {
		return actions.Errorf(actions.Failed, "the report could not be written: %w", err)
	}
	return errors.Join(write(f), f.Close())
}
