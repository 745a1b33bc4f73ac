package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

const platformHelp = `The OpenWhisk is that of --apihost and --auth, else of WHISK_APIHOST and WHISK_AUTH, else of
the file that WSK_CONFIG_FILE names, else of ~/.wskprops, which 'wsk property set' writes. A
'deepfn serve' on this machine is --apihost http://127.0.0.1:8080, and needs no key.`

// errNoHost says that no OpenWhisk was named.
var errNoHost = usageError{errors.New("no OpenWhisk is named: --apihost URL, WHISK_APIHOST, or 'wsk property set --apihost URL'; " +
	"for a 'deepfn serve' on this machine --apihost http://127.0.0.1:8080")}

// A platform is which OpenWhisk is meant, and with which key.
type platform struct {
	env           func(string) string
	apihost, auth string
	insecure      bool
}

func (p *platform) addFlags(f *pflag.FlagSet) {
	f.StringVar(&p.apihost, "apihost", "", "URL of the OpenWhisk (WHISK_APIHOST, or APIHOST in ~/.wskprops)")
	f.StringVarP(&p.auth, "auth", "u", "", "key UUID:KEY (WHISK_AUTH, or AUTH in ~/.wskprops)")
	f.BoolVarP(&p.insecure, "insecure", "i", false, "take any certificate")
}

// connect finds the platform and asks it who we are.
func (p *platform) connect(ctx context.Context) (*deploy.Client, error) {
	host, auth, err := p.resolve()
	if err != nil {
		return nil, err
	}
	return deploy.Connect(ctx, deploy.Config{Host: host, Auth: auth, Insecure: p.insecure, Release: release})
}

// resolve returns the host and the key. Each comes from the first place that has it.
func (p *platform) resolve() (host, auth string, err error) {
	props, err := p.properties()
	if err != nil {
		return "", "", err
	}
	host = first(p.apihost, p.env("WHISK_APIHOST"), props["APIHOST"])
	auth = first(p.auth, p.env("WHISK_AUTH"), props["AUTH"])
	switch {
	case host == "":
		return "", "", errNoHost
	case auth == "" && deploy.IsLocal(host):
		auth = whisk.GuestAuth
	case auth == "":
		return "", "", usageError{fmt.Errorf("no key for %s: --auth UUID:KEY, WHISK_AUTH, or 'wsk property set --auth UUID:KEY'", host)}
	}
	return host, auth, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// properties reads wsk's file. A file that somebody named has to be there.
func (p *platform) properties() (deploy.Properties, error) {
	path := p.env("WSK_CONFIG_FILE")
	named := path != ""
	if !named {
		home := p.env("HOME")
		if home == "" {
			return deploy.Properties{}, nil
		}
		path = filepath.Join(home, ".wskprops")
	}
	f, err := os.Open(path) //nolint:gosec // the user's own file
	if errors.Is(err, os.ErrNotExist) {
		return deploy.Properties{}, nil // wsk, too, takes a file that is not there for an empty one
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("wsk's settings: %w", err)}
	}
	defer func() { _ = f.Close() }() // it was only read
	props, err := deploy.ReadProperties(f)
	if err != nil {
		return nil, usageError{fmt.Errorf("wsk's settings: %s: %w", path, err)}
	}
	return props, nil
}

// actionName is the name of the action that an argument means: a name, [package/]name, or
// the path that was deployed.
func actionName(arg, pkg string) string {
	name := arg
	if isFile(arg) {
		base := filepath.Base(filepath.Clean(arg))
		if abs, err := filepath.Abs(arg); err == nil {
			base = filepath.Base(abs)
		}
		base = strings.TrimSuffix(strings.TrimSuffix(base, filepath.Ext(base)), ".tar")
		name = actions.ModelName(base, "function")
	}
	if pkg != "" && !strings.Contains(name, "/") {
		name = pkg + "/" + name
	}
	return name
}

func undeployCommand(s *settings) *cobra.Command {
	p := &platform{env: s.getenv}
	var pkg string
	var all, force bool
	cmd := &cobra.Command{
		Use:   "openwhisk [MODEL]...",
		Short: "Removes actions that deepfn has deployed",
		Long: "Removes actions that deepfn has deployed: MODEL is an action's name, [PACKAGE/]NAME, or the path\n" +
			"that was deployed. --all removes all of a package, and then the package.\n\n" + platformHelp + "\n\n" + exitHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError{errors.New("undeploy openwhisk: name a MODEL, or --all")}
			}
			client, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			if all {
				return removeAll(cmd, client, first(pkg, allPackage), force)
			}
			return removeActions(cmd, client, args, pkg, force)
		},
	}
	p.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&pkg, "package", "", "package of the actions (default: none; with --all "+allPackage+")")
	cmd.Flags().BoolVar(&all, "all", false, "remove everything in the package that deepfn has deployed")
	cmd.Flags().BoolVar(&force, "force", false, "remove also what deepfn has not deployed")
	return cmd
}

func removeActions(cmd *cobra.Command, client *deploy.Client, args []string, pkg string, force bool) error {
	var missing []string
	for _, arg := range args {
		name := actionName(arg, pkg)
		removed, err := client.Remove(cmd.Context(), name, force)
		if err != nil {
			return err
		}
		if !removed {
			missing = append(missing, name)
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), "not there: action", name)
			continue
		}
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), "removed action", name)
	}
	if len(missing) == len(args) {
		return actions.Errorf(actions.NotFound, "there is no action %s; 'deepfn status openwhisk' lists what is deployed", strings.Join(missing, ", "))
	}
	return nil
}

func removeAll(cmd *cobra.Command, client *deploy.Client, pkg string, force bool) error {
	removed, err := client.RemovePackage(cmd.Context(), pkg, force)
	for _, what := range removed {
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), "removed", what)
	}
	if err == nil && len(removed) == 0 {
		return actions.Errorf(actions.NotFound, "there is nothing of deepfn in a package %s", pkg)
	}
	return err
}

func statusCommand(s *settings) *cobra.Command {
	r := &rollout{settings: s, platform: platform{env: s.getenv}}
	asJSON := false
	cmd := &cobra.Command{
		Use:   "openwhisk [MODEL]...",
		Short: "Shows what deepfn has deployed, and whether it is what is here",
		Long: "Shows the actions that deepfn has deployed, or those of the MODELs: an action's name,\n" +
			"[PACKAGE/]NAME, or the path that was deployed.\n\n" + platformHelp + "\n\n" + exitHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := r.platform.connect(cmd.Context())
			if err != nil {
				return err
			}
			h, err := s.open()
			if err != nil {
				return err
			}
			defer h.close()
			list, err := r.statuses(cmd.Context(), h, client, args)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printStatus(cmd.OutOrStdout(), list)
		},
	}
	r.platform.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&r.pkg, "package", "", "package of the actions (default: all)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// statuses finds what is deployed and compares it with what is here.
func (r *rollout) statuses(ctx context.Context, h *house, client *deploy.Client, args []string) ([]deploy.Status, error) {
	list := []deploy.Status{}
	if len(args) == 0 {
		var err error
		if list, err = client.Actions(ctx, r.pkg); err != nil {
			return nil, err
		}
	}
	for _, arg := range args {
		name := actionName(arg, r.pkg)
		s, found, err := client.Action(ctx, name)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, actions.Errorf(actions.NotFound, "there is no action %s; deepfn deploy openwhisk %s", name, arg)
		}
		list = append(list, s)
	}
	r.stderr = io.Discard // what the image has to hold was said when it was deployed
	for i, s := range list {
		source := s.Model
		if len(args) > 0 && isFile(args[i]) {
			source = args[i]
		} else if s.Code || source == "" { // its code is not here
			continue
		}
		pkg, name, packaged := strings.Cut(s.Name, "/")
		if !packaged {
			pkg, name = "", s.Name
		}
		f, err := r.function(ctx, h, source)
		if err != nil {
			list[i].Drift = []string{"the model is not here"}
			continue
		}
		f.Name = name
		if now, found, err := client.Status(ctx, pkg, f); err != nil {
			return nil, err
		} else if found {
			list[i] = now
		}
	}
	return list, nil
}

func printStatus(out io.Writer, list []deploy.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ACTION\tVERSION\tRUNS\tMEMORY\tTIMEOUT\tUPDATED\tSTATE")
	for _, s := range list {
		runs := s.Kind
		switch {
		case s.Image != "":
			runs = s.Image
		case len(s.Components) > 0:
			runs = strings.Join(s.Components, ", ")
		}
		state := "current"
		switch {
		case len(s.Drift) > 0:
			state = strings.Join(s.Drift, "; ")
		case !s.Compared: // it is not here
			state = "deployed by deepfn " + first(s.Release, "?")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d MiB\t%s\t%s\t%s\n", s.Name, s.Version, runs, s.Memory,
			time.Duration(s.Timeout)*time.Millisecond, time.UnixMilli(s.Updated).UTC().Format("2006-01-02 15:04"), state)
	}
	return w.Flush()
}

func logsCommand(s *settings) *cobra.Command {
	p := &platform{env: s.getenv}
	var pkg string
	last, follow := 1, false
	cmd := &cobra.Command{
		Use:   "openwhisk MODEL",
		Short: "Shows what an action printed in its last activations",
		Long: "Shows what an action printed: MODEL is its name, [PACKAGE/]NAME, or the path that was deployed.\n\n" +
			platformHelp + "\n\n" + exitHelp,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 1 || last > whisk.MaxLimit {
				return usageError{fmt.Errorf("--last %d: want 1 to %d", last, whisk.MaxLimit)}
			}
			client, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			name, out := actionName(args[0], pkg), cmd.OutOrStdout()
			_, found, err := client.Action(cmd.Context(), name)
			if err == nil && !found {
				err = actions.Errorf(actions.NotFound, "there is no action %s", name)
			}
			if err != nil {
				return err
			}
			if follow {
				return client.Follow(cmd.Context(), name, time.Now(), func(a whisk.Activation) { printActivation(out, a) })
			}
			list, err := client.Activations(cmd.Context(), name, last)
			for _, a := range list {
				printActivation(out, a)
			}
			return err
		},
	}
	p.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&pkg, "package", "", "package of the action")
	cmd.Flags().IntVar(&last, "last", last, "how many activations")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show those to come, until it is interrupted")
	return cmd
}

// printActivation prints an activation and the lines of its log.
func printActivation(out io.Writer, a whisk.Activation) {
	_, _ = fmt.Fprintln(out, "#", deploy.Summary(a))
	for _, text := range a.Logs {
		_, _ = fmt.Fprintln(out, text)
	}
}
