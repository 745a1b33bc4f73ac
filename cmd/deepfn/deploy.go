package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

// defaultImage is the image of an action when none is named: what the README builds, with a
// tag, because OpenWhisk falls back to a local image only if it has one.
const defaultImage = "deepfn:" + release

// allPackage is the package of the whole catalog.
const allPackage = "deepfn"

// A rollout is one run of the deploy command.
type rollout struct {
	*settings
	platform
	flags       *pflag.FlagSet
	out, errOut io.Writer

	image, kind, name, pkg, main string
	memory, concurrency, logs    int
	timeout                      time.Duration
	web, webSecure               string
	params, annotations          []string
	sequences                    []string
	all, dryRun, warm, runtimes  bool
	stemCells                    int
	manifest                     string
}

// deployCommands are the commands about platforms.
func deployCommands(s *settings) []*cobra.Command {
	group := func(use, short string, subs ...*cobra.Command) *cobra.Command {
		names := make([]string, len(subs))
		for i, sub := range subs {
			names[i] = sub.Name()
		}
		cmd := &cobra.Command{
			Use: use, Short: short, Args: cobra.ArbitraryArgs,
			RunE: func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usageError{fmt.Errorf("%s: there is no platform %q; there are: %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))}
				}
				return cmd.Help()
			},
		}
		cmd.AddCommand(subs...)
		return cmd
	}
	return []*cobra.Command{
		group("deploy", "Puts models on a platform", deployCommand(s), deployKnativeCommand(s), deployNodeCommand(s)),
		group("undeploy", "Removes from a platform what was deployed", undeployCommand(s), undeployKnativeCommand()),
		group("status", "Shows what is deployed on a platform, and whether it is what is here", statusCommand(s), statusKnativeCommand()),
		group("logs", "Shows the logs of a model on a platform", logsCommand(s)),
	}
}

func deployCommand(s *settings) *cobra.Command {
	r := &rollout{settings: s, platform: platform{env: s.getenv}}
	cmd := &cobra.Command{
		Use:   "openwhisk [MODEL]...",
		Short: "Puts models on an OpenWhisk as actions, or changes them there",
		Long: "Puts models on an OpenWhisk as actions, or changes those that are there. MODEL is a name from\n" +
			"'deepfn models list', which the image has to hold, or the path of a file or a folder, which is\n" +
			"sent as the action's code: a Python file with a function, a .zip, an executable, the folder of\n" +
			"an action. An action that is as it should be is left alone; what is said of it elsewhere stays.\n" +
			"An interrupted run is finished by the next one.\n\n" + platformHelp + "\n\n" + exitHelp,
		Example: "  deepfn deploy openwhisk ocr --image registry.example.org/me/deepfn:0.1.0 --web yes\n" +
			"  deepfn deploy openwhisk --all --dry-run\n" +
			"  deepfn deploy openwhisk --sequence receipts=ocr,./dates.py\n" +
			"  deepfn deploy openwhisk ocr-line --manifest manifest.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.flags, r.out, r.errOut = cmd.Flags(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return r.run(cmd.Context(), args)
		},
	}
	r.addFlags(cmd.Flags())
	return cmd
}

func (r *rollout) addFlags(f *pflag.FlagSet) {
	r.platform.addFlags(f)
	f.StringVar(&r.image, "image", "", "image of the actions, with a tag (DEEPFN_IMAGE; default: that of the action, else "+defaultImage+")")
	f.StringVar(&r.kind, "kind", "", "kind of the platform to use instead of an image, such as deepfn:ocr-line")
	f.StringVar(&r.name, "name", "", "name of the action (default: that of the model)")
	f.StringVar(&r.pkg, "package", "", "package of the actions; it is made if there is none (default: none; with --all "+allPackage+")")
	f.StringVar(&r.main, "main", "", "entry point: predict, train or metadata of a model, a function of code")
	f.IntVar(&r.memory, "memory", 0, "memory in MiB (default: from the size of the model)")
	f.DurationVar(&r.timeout, "timeout", 0, "most time for one activation, and for loading the model (default 5m)")
	f.IntVar(&r.concurrency, "concurrency", 0, "activations at a time in one container (default: the platform's, 1)")
	f.IntVar(&r.logs, "logs", -1, "MiB of logs that are kept of one activation, 0 for none (default: the platform's)")
	f.StringVar(&r.web, "web", "", "yes, raw or no: answer on the web without a key (default: as it is, else no)")
	f.StringVar(&r.webSecure, "web-secure", "", "what web callers send as X-Require-Whisk-Auth: a text; true: a number is made up; false: nothing")
	f.StringArrayVarP(&r.params, "param", "p", nil, "parameter KEY=VALUE of the actions; VALUE is JSON or else a text")
	f.StringArrayVarP(&r.annotations, "annotation", "a", nil, "annotation KEY=VALUE, likewise")
	f.StringArrayVar(&r.sequences, "sequence", nil, "action NAME=A,B,… that runs models, files or actions in a row, which are deployed first")
	f.BoolVar(&r.all, "all", false, "deploy every model of the catalog")
	f.BoolVar(&r.warm, "warm", false, "call each action once, without arguments: the platform starts a container, which loads the model")
	f.BoolVar(&r.dryRun, "dry-run", false, "print what would be sent, and send nothing that changes anything")
	f.StringVar(&r.manifest, "manifest", "", "write a manifest for wskdeploy to this file (-: standard output) and send nothing")
	f.BoolVar(&r.runtimes, "runtimes", false, "print the kinds for the platform's runtimes.json and send nothing")
	f.IntVar(&r.stemCells, "stem-cells", 1, "containers of a kind that are kept with the model loaded, for --runtimes")
}

// run deploys, or writes what would be deployed.
func (r *rollout) run(ctx context.Context, models []string) error {
	if err := r.check(models); err != nil {
		return err
	}
	h, err := r.open()
	if err != nil {
		return err
	}
	defer h.close()
	d, err := r.deployment(ctx, h, models)
	if err != nil {
		return err
	}
	switch {
	case r.runtimes:
		return r.printRuntimes(d)
	case r.manifest != "":
		return r.writeManifest(d)
	}
	client, err := r.connect(ctx)
	if err != nil {
		return err
	}
	plan, err := client.Plan(ctx, d)
	if err != nil {
		return err
	}
	for _, text := range plan.Warnings {
		_, _ = fmt.Fprintln(r.errOut, "deepfn: warning:", text)
	}
	if r.image == "" && r.kind == "" && client != nil && !client.Local() && creates(plan) {
		_, _ = fmt.Fprintf(r.errOut, "deepfn: warning: the image is %s, which the platform has to have; name one in a registry with --image\n", defaultImage)
	}
	if r.dryRun {
		return r.printPlan(plan)
	}
	if err := client.Apply(ctx, plan, r.report); err != nil {
		return err
	}
	if !r.warm {
		return nil
	}
	return r.warmUp(ctx, client, d)
}

// creates says whether a plan makes an action.
func creates(p deploy.Plan) bool {
	return slices.ContainsFunc(p.Steps, func(s deploy.Step) bool { return s.Verb == deploy.Create && s.Name != "" })
}

// connect returns the platform; for a dry run without one there is nothing yet.
func (r *rollout) connect(ctx context.Context) (*deploy.Client, error) {
	client, err := r.platform.connect(ctx)
	if r.dryRun && errors.Is(err, errNoHost) {
		_, _ = fmt.Fprintln(r.errOut, "deepfn: no OpenWhisk is named, so this is for an empty one")
		return nil, nil //nolint:nilnil // a nil Client is an OpenWhisk with nothing on it
	}
	return client, err
}

func (r *rollout) check(models []string) error {
	switch {
	case len(models) == 0 && len(r.sequences) == 0 && !r.all:
		return usageError{errors.New("deploy openwhisk: name a MODEL, or --all, or --sequence NAME=A,B")}
	case r.name != "" && (len(models) != 1 || r.all):
		return usageError{errors.New("--name is for one MODEL")}
	case r.kind != "" && r.flags.Changed("image"):
		return usageError{errors.New("--kind and --image exclude each other: a kind has its image")}
	case r.memory < 0 || r.timeout < 0 || r.concurrency < 0 || (r.logs < 0 && r.flags.Changed("logs")):
		return usageError{errors.New("--memory, --timeout, --concurrency and --logs want 0 or more")}
	case r.runtimes && r.manifest != "", r.dryRun && (r.runtimes || r.manifest != ""):
		return usageError{errors.New("--dry-run, --manifest and --runtimes exclude each other")}
	}
	if r.image == "" {
		r.image = r.getenv("DEEPFN_IMAGE")
	}
	return nil
}

// options are those of the flags.
func (r *rollout) options() (deploy.Options, error) {
	o := deploy.Options{Image: r.image, Kind: r.kind, Main: r.main, Web: r.web, Secret: r.webSecure}
	o.Limits = deploy.Limits{Timeout: int(r.timeout.Milliseconds()), Memory: r.memory, Concurrency: r.concurrency}
	if r.kind != "" {
		o.Image = ""
	}
	if r.logs >= 0 {
		o.Limits.Logs = &r.logs
	}
	var err error
	if o.Parameters, err = keyValues("-p", r.params); err != nil {
		return o, err
	}
	o.Annotations, err = keyValues("-a", r.annotations)
	return o, err
}

// keyValues reads KEY=VALUE as wsk reads it: a value that is JSON is that, else a text.
func keyValues(flag string, pairs []string) (whisk.KeyValues, error) {
	var out whisk.KeyValues
	for _, text := range pairs {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usageError{fmt.Errorf("%s %q: want KEY=VALUE", flag, text)}
		}
		raw := json.RawMessage(value)
		if !json.Valid(raw) {
			raw, _ = json.Marshal(value) // a text: cannot be an error
		}
		out = append(out, whisk.KeyValue{Key: key, Value: raw})
	}
	return out, nil
}

// printRuntimes prints the kinds, and how to build an image for one.
func (r *rollout) printRuntimes(d deploy.Deployment) error {
	if len(d.Functions) != 1 {
		return usageError{errors.New("--runtimes is for one MODEL: the image of a kind holds the name of its model")}
	}
	f := d.Functions[0]
	if f.Image == "" {
		f.Image = "deepfn-" + f.Model.Name + ":" + release
	}
	out, err := deploy.RuntimesEntry([]deploy.Function{f}, deploy.StemCell{Count: r.stemCells, Memory: r.memory})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(r.errOut, "The image says which model its containers load when they start:\n"+
		"  printf 'FROM %s\\nENV DEEPFN_MODEL=%s\\n' | docker build -t %s -\n", defaultImage, f.Model.Name, f.Image)
	_, err = r.out.Write(out)
	return err
}

// writeManifest writes the manifest for wskdeploy.
func (r *rollout) writeManifest(d deploy.Deployment) error {
	dir := "."
	if r.manifest != "-" {
		dir = filepath.Dir(r.manifest)
	}
	out, err := deploy.Manifest(d, dir)
	if err != nil {
		return err
	}
	if r.manifest == "-" {
		_, err = r.out.Write(out)
		return err
	}
	if err := os.WriteFile(r.manifest, out, 0o600); err != nil {
		return actions.Errorf(actions.NotFound, "--manifest: %w", err)
	}
	return nil
}

// printPlan prints the requests of a plan.
func (r *rollout) printPlan(p deploy.Plan) error {
	for _, step := range p.Steps {
		_, _ = fmt.Fprintln(r.out, "#", line(step))
		if step.Verb == deploy.Unchanged {
			continue
		}
		_, _ = fmt.Fprintln(r.out, "PUT", step.Path)
		if err := printJSON(r.out, step.Body); err != nil {
			return err
		}
	}
	return nil
}

// line says what a step does.
func line(step deploy.Step) string {
	text := step.Verb + " " + step.What
	if len(step.Changes) > 0 {
		text += ": " + strings.Join(step.Changes, ", ")
	}
	return text
}

// report prints a step that is done.
func (r *rollout) report(step deploy.Step) {
	done := step
	done.Verb = map[string]string{deploy.Create: "created", deploy.Update: "updated", deploy.Unchanged: "unchanged"}[step.Verb]
	_, _ = fmt.Fprintln(r.out, line(done))
	if step.URL != "" {
		_, _ = fmt.Fprintln(r.out, "  on the web:", step.URL)
	}
	if step.Secret != nil {
		_, _ = fmt.Fprintln(r.out, "  its callers send X-Require-Whisk-Auth:", strings.Trim(string(step.Secret), `"`))
	}
}

// warmUp calls each action once. An error of the application is as good as an answer: it
// comes from a container whose /init has loaded the model.
func (r *rollout) warmUp(ctx context.Context, client *deploy.Client, d deploy.Deployment) error {
	for _, f := range d.Functions {
		name := f.Name
		if d.Package != "" {
			name = d.Package + "/" + name
		}
		a, err := client.Invoke(ctx, name, nil)
		if err != nil {
			return err
		}
		if a.Response.Code > whisk.ApplicationError {
			return actions.Errorf(actions.Failed, "action %s does not start: %s: %s", name, whisk.StatusName(a.Response.Code), a.Response.Result)
		}
		_, _ = fmt.Fprintln(r.out, "called", deploy.Summary(a))
	}
	return nil
}
