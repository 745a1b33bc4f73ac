package deploy

import (
	"context"
	"fmt"

	"github.com/deepfn/deepfn/actions/whisk"
)

// A Status is what is deployed of one action.
type Status struct {
	Name        string   `json:"name"` // [package/]name
	Version     string   `json:"version"`
	Kind        string   `json:"kind"`
	Image       string   `json:"image,omitempty"`
	Release     string   `json:"release,omitempty"` // of deepfn, that deployed it
	Model       string   `json:"model,omitempty"`
	Code        bool     `json:"code,omitempty"` // it came with the action, not with the image
	Components  []string `json:"components,omitempty"`
	Memory      int      `json:"memory"`  // MiB
	Timeout     int      `json:"timeout"` // milliseconds
	Logs        int      `json:"logs"`    // MiB
	Concurrency int      `json:"concurrency"`
	URL         string   `json:"url,omitempty"` // of a web action
	Updated     int64    `json:"updated"`       // milliseconds since 1970
	// Compared says that it was compared with what is here. Drift is in what it differs
	// from that.
	Compared bool     `json:"compared"`
	Drift    []string `json:"drift,omitempty"`
}

// Actions returns what deepfn has deployed in the namespace, or in one package of it.
func (c *Client) Actions(ctx context.Context, pkg string) ([]Status, error) {
	var out []Status
	route := "actions"
	if pkg != "" {
		route += "/" + escaped(pkg) + "/"
	}
	for skip := 0; ; skip += whisk.MaxLimit {
		var page []whisk.Action
		err := c.call(ctx, request{what: "actions", path: fmt.Sprintf("%s?limit=%d&skip=%d", route, whisk.MaxLimit, skip)}, &page)
		if err != nil {
			return nil, err
		}
		for _, a := range page {
			if a.Annotations.Lookup(originAnnotation) == nil {
				continue
			}
			full, found, err := c.action(ctx, relative(a), false)
			if err != nil {
				return nil, err
			}
			if found { // or it was deleted meanwhile
				out = append(out, c.status(full))
			}
		}
		if len(page) < whisk.MaxLimit {
			return out, nil
		}
	}
}

// Status returns what is there of a function, and in what that differs from it. found is
// false when there is no such action.
func (c *Client) Status(ctx context.Context, pkg string, f Function) (s Status, found bool, err error) {
	there, found, err := c.action(ctx, joined(pkg, f.Name), true)
	if err != nil || !found {
		return s, found, err
	}
	s = c.status(there)
	s.Compared = true
	deployed, ours := originOf(there.Annotations)
	if !ours {
		s.Drift = []string{"not deployed by deepfn"}
		return s, true, nil
	}
	now := f.origin(c.cfg.Release)
	if deployed.Release != now.Release {
		s.Drift = append(s.Drift, fmt.Sprintf("deployed by deepfn %s, this is %s", deployed.Release, now.Release))
	}
	if deployed.SHA256 != now.SHA256 {
		s.Drift = append(s.Drift, "the model here is another one")
	}
	exec := f.wanted(now.Release).exec.filled(there.Exec)
	if deployed.SHA256 == now.SHA256 {
		if text := exec.changed(there.Exec, c.namespace); text != "" {
			s.Drift = append(s.Drift, "changed there: "+text)
		}
	}
	return s, true, nil
}

// Action returns what is there of an action, [package/]name.
func (c *Client) Action(ctx context.Context, name string) (s Status, found bool, err error) {
	there, found, err := c.action(ctx, name, false)
	if err != nil || !found {
		return s, found, err
	}
	return c.status(there), true, nil
}

func (c *Client) status(a whisk.Action) Status {
	s := Status{
		Name: relative(a), Version: a.Version, Kind: a.Exec.Kind, Image: a.Exec.Image, Components: a.Exec.Components,
		Memory: a.Limits.Memory, Timeout: a.Limits.Timeout, Logs: a.Limits.Logs, Concurrency: a.Limits.Concurrency,
		Updated: a.Updated,
	}
	if o, ok := originOf(a.Annotations); ok {
		s.Release, s.Model, s.Code = o.Release, o.Model, o.Code
	}
	if a.Annotations.Truthy("web-export") {
		s.URL = c.webURL(packageOf(a), s.Name)
	}
	return s
}
