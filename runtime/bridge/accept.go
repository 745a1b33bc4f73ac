package bridge

import (
	"encoding/json"
	"slices"
	"strconv"
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

// choose returns the first of those offered that an Accept header likes best.
func choose(accept string, offered []string) (string, bool) {
	best, most := "", 0.0
	for _, o := range offered {
		if q := quality(accept, o); q > most {
			best, most = o, q
		}
	}
	return best, most > 0
}

// quality returns how much an Accept header likes a media type, 0 for not at all. The most
// specific range counts.
func quality(accept, media string) float64 {
	kind, _, _ := strings.Cut(media, "/")
	q, closest := 0.0, 0
	for part := range strings.SplitSeq(accept, ",") {
		r, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		r = strings.ToLower(strings.TrimSpace(r))
		closeness := 0
		switch r {
		case strings.ToLower(media):
			closeness = 3
		case strings.ToLower(kind) + "/*":
			closeness = 2
		case "*/*":
			closeness = 1
		}
		if closeness > closest {
			closest, q = closeness, weight(params)
		}
	}
	return q
}

// weight returns the q of the parameters of a range.
func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(strings.ToLower(p)), "q="); ok {
			if q, err := strconv.ParseFloat(text, 64); err == nil && q >= 0 && q <= 1 {
				return q
			}
		}
	}
	return 1
}
