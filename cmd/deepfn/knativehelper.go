package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// knativeProgram is the program that knows Kubernetes. This one does not, because it runs in the
// containers of functions, where a client of Kubernetes would cost each start and each image.
const knativeProgram = "deepfn-knative"

// A toldError is an exit code of which everything is said already: that of another program, or of
// what the user has stopped.
type toldError struct{ code int }

// Error implements error.
func (e toldError) Error() string { return fmt.Sprintf("it ended with %d and has said why", e.code) }

// clusterFlags are the flags that say which Kubernetes is meant.
type clusterFlags struct{ wish.Cluster }

func (c *clusterFlags) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "file that says where Kubernetes is (KUBECONFIG; default ~/.kube/config)")
	f.StringVar(&c.Context, "context", "", "context of that file (default: its current one)")
	f.StringVarP(&c.Namespace, "namespace", "n", "", "namespace of Kubernetes (default: that of the context)")
}

// findKnative returns the path of the program that knows Kubernetes: beside this one, else on
// the PATH.
func findKnative() (string, error) {
	var dir string
	if exe, err := os.Executable(); err == nil {
		dir = filepath.Dir(exe)
		path := filepath.Join(dir, knativeProgram)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	path, err := exec.LookPath(knativeProgram)
	if err != nil {
		return "", &actions.Error{Code: actions.Unavailable, Err: err, Msg: fmt.Sprintf(
			"what has to do with Kubernetes is in a program of its own, %s, which is neither in %s nor on the PATH; 'make build' builds both, "+
				"and so does go build github.com/deepfn/deepfn/cmd/%[1]s", knativeProgram, dir)}
	}
	return path, nil
}

// askKnative runs the program that knows Kubernetes. It writes what it does and what is wrong to
// the outputs of the command.
func askKnative(cmd *cobra.Command, verb string, req wish.Request) error {
	path, err := findKnative()
	if err != nil {
		return err
	}
	req.Release = release
	doc, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("%s: %w", knativeProgram, err)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	helper := exec.CommandContext(ctx, path, verb)
	helper.Stdin, helper.Stdout, helper.Stderr = bytes.NewReader(doc), cmd.OutOrStdout(), cmd.ErrOrStderr()
	// It ends by itself when it is asked to, and says how far it got.
	helper.Cancel = func() error { return helper.Process.Signal(syscall.SIGTERM) }
	helper.WaitDelay = 10 * time.Second
	err = helper.Run()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case ended && exit.ExitCode() > 0:
		return toldError{exit.ExitCode()}
	}
	return actions.Errorf(actions.Internal, "%s: %w", path, err)
}

func undeployKnativeCommand() *cobra.Command {
	var c clusterFlags
	all := false
	cmd := &cobra.Command{
		Use:   "knative [MODEL]...",
		Short: "Removes functions that deepfn has deployed to Knative",
		Long: "Removes the functions of the MODELs, each a name of a model or of its Service, with their Triggers,\n" +
			"SinkBindings and code. A Broker that deepfn made goes, too, unless Triggers of others use it.\n" +
			"What deepfn has not made is never removed.\n\n" + exitHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError{errors.New("undeploy knative: name a MODEL, or --all")}
			}
			return askKnative(cmd, "undeploy", wish.Request{Cluster: c.Cluster, Services: serviceNames(args)})
		},
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&all, "all", false, "remove all that deepfn has deployed in the namespace")
	return cmd
}

func statusKnativeCommand() *cobra.Command {
	var c clusterFlags
	asJSON := false
	cmd := &cobra.Command{
		Use:   "knative [MODEL]...",
		Short: "Shows the functions that deepfn has deployed to Knative",
		Long: "Shows the functions of the MODELs, or all that deepfn has deployed in the namespace: whether they are\n" +
			"ready and why not, their URL, their revisions with traffic and replicas, and what gives them events.\n\n" + exitHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return askKnative(cmd, "status", wish.Request{Cluster: c.Cluster, Services: serviceNames(args), JSON: asJSON})
		},
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// serviceNames are the names that the models of a command line have as Services.
func serviceNames(args []string) []string {
	var names []string
	for _, arg := range args {
		names = append(names, wish.ServiceName(actionName(arg, "")))
	}
	return names
}
