package controller

import (
	"context"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// A resolution is an action that was found by a name.
type resolution struct {
	// name is where it is: that of the package itself when it was found by a binding, whose
	// path then is binding.
	name    whisk.Name
	binding string
	// action has the parameters of the binding, of the package and its own, the later ones
	// before the earlier ones.
	action action
}

// resolve finds an action and merges its parameters. The error is NotFound, or Conflict
// when its name is another collection's.
func (c *Controller) resolve(ctx context.Context, tx *store.Tx, n whisk.Name) (resolution, error) {
	r := resolution{name: n}
	var parameters whisk.KeyValues
	if n.Package != "" && n.Namespace != whisk.System {
		p, err := load[whisk.Package](tx, key(whisk.Packages, whisk.Name{Namespace: n.Namespace, Entity: n.Package}))
		if err != nil {
			return r, err
		}
		parameters = p.Parameters
		if b := p.Binding; b != (whisk.Binding{}) {
			r.binding = n.Path()
			r.name = whisk.Name{Namespace: b.Namespace, Package: b.Name, Entity: n.Entity}
			bound, err := c.boundPackage(ctx, tx, b)
			if err != nil {
				return r, err
			}
			parameters = bound.Parameters.Merge(parameters)
		}
	}
	var err error
	if r.name.Namespace == whisk.System {
		r.action, err = c.systemAction(ctx, r.name)
	} else {
		r.action, err = load[action](tx, key(whisk.Actions, r.name))
	}
	if len(parameters) > 0 {
		r.action.Parameters = parameters.Merge(r.action.Parameters)
	}
	return r, err
}

// boundPackage is the package that a binding is of.
func (c *Controller) boundPackage(ctx context.Context, tx *store.Tx, b whisk.Binding) (whisk.Package, error) {
	n := whisk.Name{Namespace: b.Namespace, Entity: b.Name}
	if b.Namespace == whisk.System {
		return c.systemPackage(ctx, n)
	}
	return load[whisk.Package](tx, key(whisk.Packages, n))
}

// find is resolve for a caller, in a transaction of its own.
func (c *Controller) find(ctx context.Context, caller string, n whisk.Name) (r resolution, err error) {
	n = resolved(caller, n)
	if n.Entity == "" {
		return r, notFound()
	}
	if err := c.mayRead(caller, whisk.Actions, n); err != nil {
		return r, err
	}
	err = c.cfg.Store.View(func(tx *store.Tx) (err error) {
		r, err = c.resolve(ctx, tx, n)
		return err
	})
	return r, err
}

// Web returns an action that is exported to the web, with the parameters of its package and
// without its code. Everything else is NotFound, or an error of the store.
func (c *Controller) Web(ctx context.Context, n whisk.Name) (whisk.Action, error) {
	if n.Package == whisk.NoPackage {
		n.Package = ""
	}
	r, err := c.find(ctx, whisk.Guest, n)
	switch actions.CodeOf(err) {
	case "":
	case actions.Internal, actions.Unavailable:
		return whisk.Action{}, err
	default:
		return whisk.Action{}, notFound()
	}
	if string(r.action.Annotations.Lookup("web-export")) != "true" {
		return whisk.Action{}, notFound()
	}
	return r.action.Action, nil
}
