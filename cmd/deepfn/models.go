package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

func modelsCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Lists the models, shows one, fetches what they need",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listModels(cmd, s, false) },
	}
	asJSON := false
	list := &cobra.Command{
		Use:   "list",
		Short: "Lists the models that can be served",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return listModels(cmd, s, asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	show := &cobra.Command{
		Use:   "show MODEL",
		Short: "Shows a model: its arguments, files and spec, as JSON",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.open()
			if err != nil {
				return err
			}
			m, err := h.openModel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), m)
		},
	}
	fetch := &cobra.Command{
		Use:   "fetch MODEL...",
		Short: "Fetches and verifies what the models need, and prints where it is",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE:  func(cmd *cobra.Command, args []string) error { return fetchModels(cmd, s, args) },
	}
	cmd.AddCommand(list, show, fetch, addedCommand(s))
	return cmd
}

func listModels(cmd *cobra.Command, s *settings, asJSON bool) error {
	h, err := s.open()
	if err != nil {
		return err
	}
	models, err := h.catalog.Models(cmd.Context())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), models)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MODEL\tVERSION\tRUNTIME\tTITLE")
	for _, m := range models {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, m.Version, m.Runtime, m.Title)
	}
	return w.Flush()
}

func fetchModels(cmd *cobra.Command, s *settings, names []string) error {
	h, err := s.open()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := fetchModel(cmd.Context(), h, name, cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

// fetchModel prints what the model needs, one file a line: model, name, path.
func fetchModel(ctx context.Context, h *house, name string, out io.Writer) error {
	m, err := h.openModel(ctx, name)
	if err != nil {
		return err
	}
	files, err := h.fetch(ctx, m)
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if _, err := fmt.Fprintf(out, "%s\t%s\t%s\n", m.Name, file, files[file]); err != nil {
			return err
		}
	}
	return nil
}

// fetch gets all that the model needs before it can be loaded, and says where it is.
func (h *house) fetch(ctx context.Context, m actions.Model) (map[string]string, error) {
	switch m.Runtime {
	case actions.ONNX:
		library, err := h.library(ctx)
		if err != nil {
			return nil, err
		}
		files, err := h.catalog.Fetch(ctx, m)
		if err != nil {
			return nil, err
		}
		files["libonnxruntime"] = library
		return files, nil
	case actions.Python:
		spec, err := launcher.ParseSpec(m.Spec)
		if err != nil {
			return nil, err
		}
		python, err := h.interpreter(ctx, m, spec)
		return map[string]string{"interpreter": python}, err
	}
	return nil, nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return actions.Errorf(actions.Internal, "print: %w", err)
	}
	return nil
}
