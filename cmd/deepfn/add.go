package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/environment"
)

func addCommand(s *settings) *cobra.Command {
	var o environment.AddOptions
	cmd := &cobra.Command{
		Use:   "add DIR|ZIP|GIT-URL",
		Short: "Installs a DEEPaaS module into an environment of its own, and checks that it loads",
		Long: "Installs a DEEPaaS module into an environment of its own (with uv if it is there, else pip),\n" +
			"records what is in it, checks that the module loads and warms, and lists it as a model.\n" +
			"When something is wrong nothing is changed; an earlier installation stays.\n\n" + exitHelp,
		Example: "  deepfn add ./my-module\n  deepfn add https://example.org/group/module.git@v1.2 --with 'marshmallow<4'",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return add(cmd.Context(), s, args[0], o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "what the model is called (default: the name of its entry point)")
	f.StringArrayVar(&o.Requirements, "with", nil, "a package to install too, as pip writes it; may be repeated")
	f.StringSliceVar(&o.Extras, "extras", nil, "optional parts of the module's distribution")
	f.StringVar(&o.EntryPoint, "entry-point", "", "the entry point to use of a module that has several")
	f.BoolVar(&o.Editable, "editable", false, "install the folder where it is, so that changes in it take effect with the next start")
	return cmd
}

// add installs a module and prints how to serve it.
func add(ctx context.Context, s *settings, source string, o environment.AddOptions, stdout, stderr io.Writer) error {
	h, err := s.open()
	if err != nil {
		return err
	}
	defer h.close()
	o.Python = s.python
	installed, err := h.environments.Add(ctx, source, o, func(ctx context.Context, m environment.Installed) error {
		_, _ = fmt.Fprintf(stderr, "loading %s\n", m.Model.Name)
		return h.tryModel(ctx, m.Model, stderr)
	})
	if err != nil {
		return err
	}
	m := installed.Model
	_, err = fmt.Fprintf(stdout, "%[1]s: Python %[2]s, loads and warms; what is installed stands in %[3]s\nserve it with: deepfn serve %[1]s\n",
		m.Name, installed.Python, installed.Lock)
	return err
}

// tryModel loads and warms a model once. What it prints meanwhile is shown if it fails.
func (h *house) tryModel(ctx context.Context, m actions.Model, stderr io.Writer) error {
	inst, err := h.start(ctx, m, nil)
	if err == nil {
		return inst.Close()
	}
	if e, ok := errors.AsType[*actions.Error](err); ok {
		for _, line := range e.Logs {
			_, _ = fmt.Fprintln(stderr, line.Text)
		}
	}
	return err
}

func removeCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "remove MODEL...",
		Short: "Removes modules that were added, with their environments",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.open()
			if err != nil {
				return err
			}
			defer h.close()
			for _, name := range args {
				if err := h.environments.Remove(cmd.Context(), name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func addedCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "added",
		Short: "Lists the modules that were added, with their source and interpreter",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := s.open()
			if err != nil {
				return err
			}
			defer h.close()
			modules, err := h.environments.List(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "MODEL\tPYTHON\tSOURCE\tLOCK")
			for _, m := range modules {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Model.Name, m.Python, m.Source, m.Lock)
			}
			return w.Flush()
		},
	}
}
