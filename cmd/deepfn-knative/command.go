package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// A program is one run: what the operating system gives to main.
type program struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	// poll and settle are for the tests; zeros are the defaults of knative.Config.
	poll, settle time.Duration
}

// maxRequest bounds what is read: code in base64, and the rest.
const maxRequest = wish.MaxCode*4/3 + 4<<20

// run does what the verb says and returns the exit code.
func run(ctx context.Context, p program) int {
	err := p.run(ctx)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintln(p.stderr, "deepfn-knative:", err)
	switch actions.CodeOf(err) {
	case actions.Invalid, actions.Unsupported, actions.TooLarge:
		return 2
	case actions.NotFound:
		return 3
	case actions.Busy, actions.Unavailable, actions.Conflict, actions.Unauthorized, actions.Forbidden:
		return 4
	case actions.Deadline, actions.Canceled:
		return 5
	case actions.Failed, actions.NoAnswer, actions.Exited, actions.Internal:
		return 1
	}
	return 1
}

func (p program) run(ctx context.Context) error {
	if len(p.args) != 1 {
		return actions.Errorf(actions.Invalid, "want one of deploy, status, undeploy and version; it is 'deepfn deploy knative' that runs this program")
	}
	verb := p.args[0]
	switch verb {
	case "deploy", "status", "undeploy":
	case "version":
		_, err := fmt.Fprintln(p.stdout, "deepfn-knative", version())
		return err
	default:
		return actions.Errorf(actions.Invalid, "there is no verb %q; there are deploy, status, undeploy and version", verb)
	}
	req, err := p.read()
	if err != nil {
		return err
	}
	if verb == "deploy" && req.DryRun {
		return p.manifest(ctx, req)
	}
	cluster, err := knative.Connect(knative.Config{
		Cluster: req.Cluster, Poll: p.poll, Settle: p.settle,
		Warn: func(text string) { _, _ = fmt.Fprintln(p.stderr, "deepfn-knative: warning:", text) },
	})
	if err != nil {
		return err
	}
	switch verb {
	case "deploy":
		return p.deploy(ctx, cluster, req)
	case "status":
		return p.status(ctx, cluster, req)
	}
	return p.undeploy(ctx, cluster, req)
}

// read reads the request.
func (p program) read() (wish.Request, error) {
	var req wish.Request
	dec := json.NewDecoder(io.LimitReader(p.stdin, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, actions.Errorf(actions.Invalid, "the request: %w; deepfn and deepfn-knative (%s) have to be of one version", err, version())
	}
	return req, nil
}

// deployment is what a request wants to be deployed.
func deployment(req wish.Request) (wish.Deployment, error) {
	if req.Deployment == nil {
		return wish.Deployment{}, actions.Errorf(actions.Invalid, "the request has no deployment")
	}
	d := *req.Deployment
	if d.Release == "" {
		d.Release = req.Release
	}
	return d, nil
}

// manifest prints what would be deployed.
func (p program) manifest(ctx context.Context, req wish.Request) error {
	d, err := deployment(req)
	if err != nil {
		return err
	}
	out, err := knative.Manifest(ctx, d, req.Cluster.Namespace)
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(out)
	return err
}

// report prints a step that is done.
func (p program) report(s knative.Step) { _, _ = fmt.Fprintln(p.stdout, s) }

// deploy deploys, and waits as long as it is asked to.
func (p program) deploy(ctx context.Context, c *knative.Cluster, req wish.Request) error {
	d, err := deployment(req)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, d, req.Force, p.report); err != nil {
		return err
	}
	if req.Wait <= 0 {
		return nil
	}
	began := time.Now()
	waiting, cancel := context.WithTimeout(ctx, req.Wait)
	defer cancel()
	s, err := c.Wait(waiting, d.Name)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(p.stdout, "ready after %.1fs\n", time.Since(began).Seconds())
	if s.URL != "" {
		_, _ = fmt.Fprintln(p.stdout, s.URL)
	}
	return nil
}

// status prints what is deployed.
func (p program) status(ctx context.Context, c *knative.Cluster, req wish.Request) error {
	list, err := c.Status(ctx, req.Services)
	if err != nil {
		return err
	}
	if req.JSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "KIND\tNAME\tSTATE\tTRAFFIC\tREPLICAS\tWHAT")
	for _, s := range list {
		_, _ = fmt.Fprintf(w, "service\t%s\t%s\t\t\t%s %s\n", s.Name, s.State, s.URL, s.Reason)
		for _, r := range s.Revisions {
			_, _ = fmt.Fprintf(w, "  revision\t%s\t%s\t%d %%\t%d\t%s %s\n", r.Name, r.State, r.Percent, r.Replicas, r.Image, r.Reason)
		}
		for _, o := range s.Objects {
			_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t\t\t%s %s\n", o.Kind, o.Name, o.State, o.Address, o.Reason)
		}
	}
	return w.Flush()
}

// undeploy removes functions. All are tried; the first error is told last.
func (p program) undeploy(ctx context.Context, c *knative.Cluster, req wish.Request) error {
	names := req.Services
	if len(names) == 0 {
		list, err := c.Status(ctx, nil)
		if err != nil {
			return err
		}
		for _, s := range list {
			names = append(names, s.Name)
		}
		if len(names) == 0 {
			return actions.Errorf(actions.NotFound, "deepfn has deployed nothing there")
		}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, c.Remove(ctx, name, p.report))
	}
	return errors.Join(errs...)
}

// version is that of the build.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
