package deploy

import (
	"context"
	"net/http"
	"net/url"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// Remove deletes an action, [package/]name. It is not an error when there is none: removed
// is false then. One that deepfn has not deployed is Conflict, unless force is set.
func (c *Client) Remove(ctx context.Context, name string, force bool) (removed bool, err error) {
	what := "action " + name
	there, found, err := c.action(ctx, name, false)
	if err != nil || !found {
		return false, err
	}
	if there.Annotations.Lookup(originAnnotation) == nil && !force {
		return false, actions.Errorf(actions.Conflict, "%s was not deployed by deepfn; --force removes it anyway", what)
	}
	return c.delete(ctx, what, "actions/"+escaped(name))
}

// RemovePackage deletes what deepfn has deployed into a package, then the package if
// nothing is left in it and deepfn has made it; with force it deletes all of it. It returns
// what it has deleted, also with an error.
func (c *Client) RemovePackage(ctx context.Context, name string, force bool) (removed []string, err error) {
	what, path := "package "+name, "packages/"+url.PathEscape(name)
	var there whisk.Package
	found, err := c.lookup(ctx, request{what: what, path: path}, &there)
	if err != nil || !found {
		return nil, err
	}
	left := 0
	if there.Actions != nil {
		for _, a := range *there.Actions {
			if a.Annotations.Lookup(originAnnotation) == nil && !force {
				left++
				continue
			}
			done, err := c.delete(ctx, "action "+joined(name, a.Name), "actions/"+escaped(joined(name, a.Name)))
			if err != nil {
				return removed, err
			}
			if done {
				removed = append(removed, "action "+joined(name, a.Name))
			}
		}
	}
	if left > 0 || (there.Annotations.Lookup(originAnnotation) == nil && !force) {
		return removed, nil
	}
	done, err := c.delete(ctx, what, path)
	if done {
		removed = append(removed, what)
	}
	return removed, err
}

func (c *Client) delete(ctx context.Context, what, path string) (bool, error) {
	return c.lookup(ctx, request{what: what, method: http.MethodDelete, path: path}, nil)
}
