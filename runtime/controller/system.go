package controller

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// The packages of whisk.system: one has the models of the catalog, the other begins batch
// predictions with them.
const (
	modelsPackage = "models"
	batchPackage  = "batch"
)

// modelTimeout is the time limit of its actions in milliseconds: a model may have to be
// loaded, and its environment to be made.
const modelTimeout = 300_000

// models returns the models of the catalog, without what is the code of actions.
func (c *Controller) models(ctx context.Context) ([]actions.Model, error) {
	models, err := c.cfg.Catalog.Models(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(models), func(m actions.Model) bool {
		return MadeOfCode(m.Name)
	}), nil
}

// systemAction is an action of whisk.system.
func (c *Controller) systemAction(ctx context.Context, n whisk.Name) (action, error) {
	if !c.hasSystemPackage(n.Package) || MadeOfCode(n.Entity) {
		return action{}, notFound()
	}
	m, err := c.cfg.Catalog.Model(ctx, n.Entity)
	if code := actions.CodeOf(err); code == actions.NotFound || code == actions.Invalid {
		return action{}, actions.Errorf(actions.NotFound, "%s %s", doesNotExist, err)
	}
	if err != nil {
		return action{}, err
	}
	return c.actionIn(n.Package, m), nil
}

// hasSystemPackage says whether whisk.system has a package.
func (c *Controller) hasSystemPackage(name string) bool {
	return slices.Contains(c.systemPackages(), name)
}

// systemPackages are the names of the packages of whisk.system.
func (c *Controller) systemPackages() []string {
	if c.cfg.Batches {
		return []string{modelsPackage, batchPackage}
	}
	return []string{modelsPackage}
}

// actionIn is the action of a model in a package of whisk.system.
func (c *Controller) actionIn(name string, m actions.Model) action {
	if name == batchPackage {
		return c.batchAction(m)
	}
	return c.modelAction(m)
}

// modelAction is the action of a model.
func (c *Controller) modelAction(m actions.Model) action {
	annotations := whisk.KeyValues{}.With("exec", modelFamily+m.Name).With("provide-api-key", false).With("web-export", false)
	if text := description(m); text != "" {
		annotations = annotations.With("description", text)
	}
	if len(m.Arguments) > 0 {
		annotations = annotations.With("parameters", parameterNotes(m))
	}
	limit := func(of Range, wanted int) int { return min(max(wanted, of.Min), of.Max) }
	return action{Model: m.Name, Action: whisk.Action{
		Namespace: whisk.System + "/" + modelsPackage, Name: m.Name, Version: firstVersion, Publish: true,
		Exec: whisk.Exec{Kind: modelFamily + m.Name}, Annotations: annotations, Updated: c.started.UnixMilli(),
		Limits: whisk.Limits{
			Timeout: limit(c.cfg.Timeout, modelTimeout), Memory: c.cfg.Memory.Default,
			Logs: c.cfg.Logs.Default, Concurrency: c.cfg.Concurrency.Default,
		},
	}}
}

func description(m actions.Model) string {
	if m.Title != "" {
		return m.Title
	}
	return m.Description
}

// A parameterNote describes a parameter in an annotation, for wsk's summaries.
type parameterNote struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Type        string          `json:"type,omitempty"`
	Required    bool            `json:"required,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
}

func parameterNotes(m actions.Model) []parameterNote {
	notes := make([]parameterNote, len(m.Arguments))
	for i, a := range m.Arguments {
		notes[i] = parameterNote{a.Name, a.Description, string(a.Type), a.Required, a.Default}
	}
	return notes
}

// systemPackage is a package of whisk.system with what is in it.
func (c *Controller) systemPackage(ctx context.Context, n whisk.Name) (whisk.Package, error) {
	if !c.hasSystemPackage(n.Entity) {
		return whisk.Package{}, notFound()
	}
	models, err := c.models(ctx)
	if err != nil {
		return whisk.Package{}, err
	}
	about := "The models of this server"
	if n.Entity == batchPackage {
		about = "Batch predictions with the models of this server"
	}
	p := whisk.Package{
		Namespace: whisk.System, Name: n.Entity, Version: firstVersion, Publish: true,
		Annotations: whisk.KeyValues{}.With("description", about), Updated: c.started.UnixMilli(),
		Actions: &[]whisk.PackageAction{}, Feeds: &[]whisk.PackageAction{},
	}
	for _, m := range models {
		a := c.actionIn(n.Entity, m)
		*p.Actions = append(*p.Actions, whisk.PackageAction{Name: a.Name, Version: a.Version, Annotations: a.Annotations})
	}
	return p, nil
}

// listSystem lists a collection of whisk.system.
func (c *Controller) listSystem(ctx context.Context, col whisk.Collection, n whisk.Name) ([]listed, error) {
	if col != whisk.Packages && col != whisk.Actions {
		return nil, nil
	}
	if n.Package != "" && !c.hasSystemPackage(n.Package) {
		return nil, notFound()
	}
	models, err := c.models(ctx)
	if err != nil {
		return nil, err
	}
	var all []listed
	for _, name := range c.systemPackages() {
		switch {
		case col == whisk.Packages:
			p, err := c.systemPackage(ctx, whisk.Name{Entity: name})
			if err != nil {
				return nil, err
			}
			all = append(all, listed{p.Name, p.Updated, summarizePackage(p)})
		case n.Package == "" || n.Package == name:
			for _, m := range models {
				all = append(all, summarizeAction(c.actionIn(name, m)))
			}
		}
	}
	return all, nil
}
