package controller

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// bindingNote is the annotation that says what a package is a binding of.
const bindingNote = "binding"

// A packagePut is the body of a PUT.
type packagePut struct {
	Binding     *whisk.Binding   `json:"binding"`
	Parameters  *whisk.KeyValues `json:"parameters"`
	Version     *string          `json:"version"`
	Publish     *bool            `json:"publish"`
	Annotations *whisk.KeyValues `json:"annotations"`
}

// putPackage makes or changes a package or a binding.
func (c *Controller) putPackage(n whisk.Name, body json.RawMessage, overwrite bool) (any, error) {
	if n.Entity == whisk.NoPackage {
		return nil, invalid("Package name '%s' is reserved.", n.Entity)
	}
	var in packagePut
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := c.checkSizes(in.Parameters, in.Annotations); err != nil {
		return nil, err
	}
	if err := checkVersion(in.Version); err != nil {
		return nil, err
	}
	if in.Binding != nil && *in.Binding == (whisk.Binding{}) {
		in.Binding = nil
	}
	if in.Binding != nil && in.Binding.Namespace == whisk.Own {
		in.Binding.Namespace = n.Namespace
	}
	var doc whisk.Package
	err := c.cfg.Store.Update(func(tx *store.Tx) (err error) {
		if in.Binding != nil {
			if err := c.checkBinding(tx, n.Namespace, *in.Binding); err != nil {
				return err
			}
		}
		doc, err = put(tx, key(whisk.Packages, n), overwrite,
			func() (whisk.Package, error) {
				return changedPackage(whisk.Package{Namespace: n.Namespace, Name: n.Entity, Version: firstVersion}, in), nil
			},
			func(old whisk.Package) (whisk.Package, error) {
				if in.Binding != nil && old.Binding == (whisk.Binding{}) {
					return old, conflict(packageNoBinding)
				}
				old.Version = nextVersion(old.Version)
				return changedPackage(old, in), nil
			})
		return err
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// changedPackage is a package with what the body of a PUT says.
func changedPackage(p whisk.Package, in packagePut) whisk.Package {
	if in.Binding != nil {
		p.Binding = *in.Binding
	}
	if in.Parameters != nil {
		p.Parameters = in.Parameters.Unique()
	}
	if in.Version != nil {
		p.Version = *in.Version
	}
	if in.Publish != nil {
		p.Publish = *in.Publish
	}
	if in.Annotations != nil {
		p.Annotations = in.Annotations.Unique()
	}
	annotations := whisk.KeyValues{}
	for _, pair := range p.Annotations {
		if pair.Key != bindingNote { // it is the controller's
			annotations = append(annotations, pair)
		}
	}
	if p.Binding != (whisk.Binding{}) {
		annotations = annotations.With(bindingNote, p.Binding)
	}
	p.Annotations, p.Updated = annotations, now()
	return p
}

// checkBinding refuses a binding to what is no package.
func (c *Controller) checkBinding(tx *store.Tx, caller string, b whisk.Binding) error {
	n := whisk.Name{Namespace: b.Namespace, Entity: b.Name}
	switch {
	case b.Namespace == whisk.System && c.hasSystemPackage(b.Name):
		return nil
	case b.Namespace == whisk.System:
		return invalid(noSuchBinding)
	case b.Namespace != caller:
		return forbidden()
	}
	p, err := load[whisk.Package](tx, key(whisk.Packages, n))
	switch {
	case actions.CodeOf(err) == actions.NotFound:
		return invalid(noSuchBinding)
	case actions.CodeOf(err) == actions.Conflict:
		return conflict(bindingNoPackage)
	case err == nil && p.Binding != (whisk.Binding{}):
		return invalid(bindingOfBinding)
	}
	return err
}

// packageDocument is a package as GET shows it, with what is in it; a binding with the
// parameters of both.
func (c *Controller) packageDocument(ctx context.Context, tx *store.Tx, n whisk.Name) (any, error) {
	if n.Namespace == whisk.System {
		return c.systemPackage(ctx, n)
	}
	p, err := load[whisk.Package](tx, key(whisk.Packages, n))
	if err != nil {
		return nil, err
	}
	inside := whisk.Name{Namespace: n.Namespace, Package: n.Entity}
	if b := p.Binding; b != (whisk.Binding{}) {
		bound, err := c.boundPackage(ctx, tx, b)
		if err != nil {
			return nil, err
		}
		p.Parameters = bound.Parameters.Merge(p.Parameters)
		if b.Namespace == whisk.System {
			p.Actions, p.Feeds = bound.Actions, bound.Feeds
			return p, nil
		}
		inside = whisk.Name{Namespace: b.Namespace, Package: b.Name}
	}
	p.Actions, p.Feeds = &[]whisk.PackageAction{}, &[]whisk.PackageAction{}
	_, err = listAll(tx, whisk.Actions, inside, func(a action) listed {
		list := p.Actions
		if a.Annotations.Lookup("feed") != nil {
			list = p.Feeds
		}
		*list = append(*list, whisk.PackageAction{Name: a.Name, Version: a.Version, Annotations: a.Annotations})
		return listed{}
	})
	return p, err
}

// deletePackage removes what is in a package, if that is wanted.
func deletePackage(tx *store.Tx, n whisk.Name, force bool) (any, error) {
	p, err := load[whisk.Package](tx, key(whisk.Packages, n))
	if err != nil || p.Binding != (whisk.Binding{}) {
		return p, err
	}
	inside := whisk.Name{Namespace: n.Namespace, Package: n.Entity}
	within, err := listAll(tx, whisk.Actions, inside, func(a action) listed { return listed{name: a.Name} })
	if err != nil {
		return nil, err
	}
	if len(within) > 0 && !force {
		entities := "entities"
		if len(within) == 1 {
			entities = "entity"
		}
		return nil, conflict(fmt.Sprintf("Package not empty (contains %d %s). Set force param or delete package contents.", len(within), entities))
	}
	for _, l := range within {
		inside.Entity = l.name
		for _, col := range []whisk.Collection{whisk.Actions, codeCollection} {
			if err := tx.DeleteEntity(key(col, inside)); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// A packageSummary is a package in a list. Its binding is false when it is none.
type packageSummary struct {
	summary
	Binding any `json:"binding"`
}

func summarizePackage(p whisk.Package) packageSummary {
	s := packageSummary{summary{p.Namespace, p.Name, p.Version, p.Publish, p.Annotations, p.Updated}, false}
	if p.Binding != (whisk.Binding{}) {
		s.Binding = p.Binding
	}
	return s
}
