package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/cmd/relay"
)

// A program is one run of the command: what the operating system gives to main.
type program struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// Exit codes. They are part of the command's interface; the help text lists them.
const (
	exitOK          = 0
	exitFailed      = 1 // the model failed, or deepfn is at fault
	exitUsage       = 2 // the command line or an argument of the model is wrong
	exitNotFound    = 3 // there is no such model or file
	exitUnavailable = 4 // what the model needs could not be had, or the address is taken
	exitDeadline    = 5 // the time was over, or the user stopped it
)

const exitHelp = `Exit codes:
  0  done
  1  the model failed, or deepfn is at fault
  2  the command line or an argument of the model is wrong
  3  there is no such model or file
  4  what the model needs could not be had (a file with its hash, the network,
     an instance), or the address is taken
  5  the time was over, or it was stopped`

// A usageError is a fault of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run runs the command and returns its exit code.
func run(ctx context.Context, p program) int {
	root := newRoot(p)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if told, ok := errors.AsType[toldError](err); ok {
		return told.code
	}
	_, _ = fmt.Fprintln(p.stderr, "deepfn:", err)
	code := exitCode(err)
	if isUsage(err) {
		_, _ = fmt.Fprintln(p.stderr, "See 'deepfn help'.")
	}
	return code
}

func newRoot(p program) *cobra.Command {
	root := &cobra.Command{
		Use:     "deepfn",
		Short:   "Runs machine-learning models as serverless functions",
		Version: release + revision(),
		Long: "deepfn runs machine-learning models as serverless functions: on Apache OpenWhisk,\n" +
			"on Knative, and alone.\n\n" + exitHelp,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; there are serve, batch, node, invoke, models, devices, top, add, remove, deploy, undeploy, status, logs, conformance and version", args[0])}
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetArgs(p.args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })

	s := &settings{getenv: p.getenv, stderr: p.stderr}
	s.addFlags(root.PersistentFlags())
	root.AddCommand(serveCommand(s), invokeCommand(s), modelsCommand(s), versionCommand(), healthcheckCommand(s), nodeCommand(s), workerCommand(),
		addCommand(s), removeCommand(s), conformanceCommand(), devicesCommand(s), topCommand(), batchCommand(s))
	root.AddCommand(deployCommands(s)...)
	return root
}

// args wraps cobra's check of the number of arguments into a usageError.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%s: %w; usage: %s", cmd.CommandPath(), err, strings.TrimSpace(cmd.UseLine()))}
		}
		return nil
	}
}

// isUsage says whether an error is a fault of the command line.
func isUsage(err error) bool {
	_, ours := errors.AsType[usageError](err)
	_, shared := errors.AsType[relay.UsageError](err)
	return ours || shared
}

// exitCode maps an error to the exit code of the command.
func exitCode(err error) int {
	if isUsage(err) {
		return exitUsage
	}
	switch actions.CodeOf(err) {
	case actions.Invalid, actions.Unsupported, actions.TooLarge:
		return exitUsage
	case actions.NotFound:
		return exitNotFound
	case actions.Busy, actions.Unavailable, actions.Conflict, actions.Unauthorized, actions.Forbidden:
		return exitUnavailable
	case actions.Deadline, actions.Canceled:
		return exitDeadline
	case actions.Failed, actions.NoAnswer, actions.Exited, actions.Internal:
		return exitFailed
	}
	return exitFailed
}
