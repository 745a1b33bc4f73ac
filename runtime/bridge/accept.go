package bridge

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// accept tells the server which media type the caller wants. A server with a parameter
// "accept" compares whole strings, so that it is told one of its own.
func (d *draft) accept(wanted string) error {
	p := find(d.parameters, "accept")
	if wanted == "" || hasControl(wanted) {
		return nil
	}
	if p == nil || len(p.Enum) == 0 {
		d.header.Set("Accept", wanted)
		return nil
	}
	if d.accepts || d.query.Has("accept") || slices.ContainsFunc(d.form, func(f field) bool { return f.name == "accept" }) {
		return nil // an argument is more than a header
	}
	chosen, ok := choose(wanted, choices(p))
	if !ok {
		return actions.Errorf(actions.Unsupported, "the model answers with %s, not with %q", strings.Join(choices(p), ", "), wanted)
	}
	if p.In == "header" {
		d.header.Set("Accept", chosen)
	} else {
		d.query.Set("accept", chosen)
	}
	return nil
}

// choices returns the media types of a parameter.
func choices(p *parameter) []string {
	var all []string
	for _, raw := range p.Enum {
		var text string
		if json.Unmarshal(raw, &text) == nil && text != "*/*" {
			all = append(all, text)
		}
	}
	return all
}

// choose returns the first of those offered that an Accept header likes best. One that the
// caller names as the server does need not be a media type.
func choose(wanted string, offered []string) (string, bool) {
	if slices.Contains(offered, wanted) {
		return wanted, true
	}
	accept, err := actions.ParseAccept(wanted)
	if err != nil {
		return "", false // nothing that is offered
	}
	chosen := accept.Choose(offered...)
	return chosen, chosen != ""
}
