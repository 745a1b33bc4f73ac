package deploy

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// A Plan is what has to be sent for a Deployment, in this order. Each step stands alone:
// after an interruption a new plan has what is left.
type Plan struct {
	Steps []Step
	// Warnings are for people: limits that the platform does not allow.
	Warnings []string
}

// A Step makes or changes one entity.
type Step struct {
	// What is the entity: "action deepfn/ocr-line".
	What string
	// Verb is Create, Update or Unchanged; nothing is sent for the last.
	Verb string
	// Changes say what an Update changes.
	Changes []string
	// Path is where Body goes, from /api on, and Body a JSON document. Empty for Unchanged.
	Path string
	Body json.RawMessage
	// URL is where a web action answers; empty for others. Secret is what is to be sent
	// there, if the step sets one.
	URL    string
	Secret json.RawMessage
	// Name is that of an action as its caller writes it, [package/]name; empty for a
	// package.
	Name string

	route string
}

// The verbs of a Step.
const (
	Create    = "create"
	Update    = "update"
	Unchanged = "unchanged"
)

// Plan compares a Deployment with what is there. It sends no more than GETs. The error is
// Invalid for what no platform would take, Conflict for a name that something else has.
func (c *Client) Plan(ctx context.Context, d Deployment) (Plan, error) {
	if err := d.check(); err != nil {
		return Plan{}, err
	}
	var p Plan
	var inherited whisk.KeyValues
	if d.Package != "" {
		step, there, err := c.planPackage(ctx, d)
		if err != nil {
			return p, err
		}
		p.Steps = append(p.Steps, step)
		inherited = there.Parameters
	}
	b := c.bounds(ctx)
	for _, f := range d.Functions {
		w := f.wanted(d.Release)
		w.inherited = inherited
		if err := c.planAction(ctx, &p, b, d, f.Name, w); err != nil {
			return p, err
		}
	}
	for _, s := range d.Sequences {
		components, err := c.components(ctx, d, s)
		if err != nil {
			return p, err
		}
		if err := c.planAction(ctx, &p, b, d, s.Name, s.wanted(d.Release, components)); err != nil {
			return p, err
		}
	}
	return p, nil
}

// check refuses names that cannot be, and those that are there twice.
func (d Deployment) check() error {
	seen := map[string]bool{}
	add := func(name string) error {
		if err := whisk.CheckSegment(name); err != nil {
			return actions.Errorf(actions.Invalid, "action: %w", err)
		}
		if seen[name] {
			return actions.Errorf(actions.Invalid, "two actions are called %s", name)
		}
		seen[name] = true
		return nil
	}
	if d.Package != "" {
		if err := whisk.CheckSegment(d.Package); err != nil {
			return actions.Errorf(actions.Invalid, "package: %w", err)
		}
	}
	for _, f := range d.Functions {
		if err := add(f.Name); err != nil {
			return err
		}
		if f.Image == "" && f.Kind == "" && d.Image == "" {
			return actions.Errorf(actions.Invalid, "action %s: no image is named", f.Name)
		}
	}
	for _, s := range d.Sequences {
		if err := add(s.Name); err != nil {
			return err
		}
		if len(s.Parameters) > 0 {
			return actions.Errorf(actions.Invalid, "sequence %s: a sequence has no parameters of its own; give them to its first action", s.Name)
		}
		if len(s.Components) == 0 {
			return actions.Errorf(actions.Invalid, "sequence %s has no actions", s.Name)
		}
	}
	return nil
}

// planPackage makes the package unless it is there.
func (c *Client) planPackage(ctx context.Context, d Deployment) (step Step, there whisk.Package, err error) {
	name := d.Package
	step = Step{What: "package " + name, Verb: Unchanged}
	found := false
	if c != nil {
		if found, err = c.lookup(ctx, request{what: step.What, path: "packages/" + url.PathEscape(name)}, &there); err != nil {
			return step, there, err
		}
	}
	if found {
		if there.Binding.Name != "" {
			return step, there, actions.Errorf(actions.Conflict, "package %s is a binding of /%s/%s, which takes no actions; choose another name with --package",
				name, there.Binding.Namespace, there.Binding.Name)
		}
		return step, there, nil
	}
	step.Verb = Create
	return step, there, step.put("packages/"+url.PathEscape(name), false, struct {
		Namespace   string          `json:"namespace"`
		Name        string          `json:"name"`
		Annotations whisk.KeyValues `json:"annotations"`
	}{whisk.Own, name, whisk.KeyValues{pair("description", "Models that deepfn serves"), pair(originAnnotation, origin{Release: d.Release})}})
}

// planAction adds the step that makes an action what is wanted.
func (c *Client) planAction(ctx context.Context, p *Plan, b bounds, d Deployment, name string, w wanted) error {
	name = joined(d.Package, name)
	step := Step{What: "action " + name, Name: name, Verb: Unchanged}
	w.what = step.What
	there, found, err := c.action(ctx, name, true)
	if err != nil {
		return err
	}
	var put actionPut
	var warnings []string
	if found {
		put, step.Changes, warnings, err = w.update(there, c.Namespace(), d.Image, b)
	} else {
		put, warnings, err = w.create(d.Image, b)
	}
	if err != nil {
		return actions.Errorf(actions.CodeOf(err), "%s: %w", step.What, err)
	}
	p.Warnings = append(p.Warnings, warnings...)
	put.Namespace, put.Name = whisk.Own, name
	if !found {
		step.Verb = Create
	} else if len(step.Changes) > 0 {
		step.Verb = Update
	}
	if merge(there.Annotations, put.Annotations).Truthy("web-export") && !slices.Contains(put.DelAnnotations, "web-export") {
		step.URL = c.webURL(d.Package, name)
	}
	step.Secret = put.Annotations.Lookup(secretAnnotation)
	if step.Verb != Unchanged {
		err = step.put("actions/"+escaped(name), found, put)
	}
	p.Steps = append(p.Steps, step)
	return err
}

// put sets what the step sends.
func (s *Step) put(route string, overwrite bool, body any) error {
	raw, err := marshal(body)
	if err != nil {
		return actions.Errorf(actions.Invalid, "%s: %w", s.What, err)
	}
	s.route = route + "?overwrite=" + strconv.FormatBool(overwrite)
	s.Path, s.Body = "/api/v1/namespaces/"+whisk.Own+"/"+s.route, raw
	return nil
}

// components are the full names of a sequence's actions. One that is not of this
// Deployment has to be there.
func (c *Client) components(ctx context.Context, d Deployment, s Sequence) ([]string, error) {
	var names []string
	for _, component := range s.Components {
		if slices.ContainsFunc(d.Functions, func(f Function) bool { return f.Name == component }) {
			names = append(names, "/"+whisk.Own+"/"+joined(d.Package, component))
			continue
		}
		n, err := whisk.ParseName(component, whisk.Own)
		if err != nil {
			return nil, actions.Errorf(actions.Invalid, "sequence %s: %w", s.Name, err)
		}
		if n.Namespace == whisk.Own || n.Namespace == c.Namespace() { // others' may be shared without being shown
			n.Namespace = whisk.Own
			_, found, err := c.action(ctx, joined(n.Package, n.Entity), false)
			if err != nil {
				return nil, err
			}
			if !found && c != nil {
				return nil, actions.Errorf(actions.NotFound, "sequence %s: %s is neither a model, a file, nor an action that is there", s.Name, component)
			}
		}
		names = append(names, n.String())
	}
	return names, nil
}

// action returns an action of the caller's, by its name [package/]name.
func (c *Client) action(ctx context.Context, name string, code bool) (a whisk.Action, found bool, err error) {
	if c == nil {
		return a, false, nil
	}
	found, err = c.lookup(ctx, request{what: "action " + name, path: "actions/" + escaped(name) + "?code=" + strconv.FormatBool(code)}, &a)
	return a, found, err
}

// webURL is where a web action answers.
func (c *Client) webURL(pkg, name string) string {
	path := "/api/v1/web/" + url.PathEscape(c.Namespace()) + "/"
	if pkg == "" {
		path += whisk.NoPackage + "/"
	}
	path += escaped(name)
	if c == nil {
		return path
	}
	return c.base.String() + path
}

// Apply sends the steps of a plan and reports each one that is done. After an error the
// steps that are done stay.
func (c *Client) Apply(ctx context.Context, p Plan, report func(Step)) error {
	for _, step := range p.Steps {
		if step.Verb != Unchanged {
			if err := c.call(ctx, request{what: step.What, method: http.MethodPut, path: step.route, body: step.Body}, nil); err != nil {
				return err
			}
		}
		report(step)
	}
	return nil
}

// joined is the name of an action as the API's paths have it.
func joined(pkg, name string) string {
	if pkg == "" {
		return name
	}
	return pkg + "/" + name
}
