package proxy

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// maxAPIWait is the most time that a blocking invocation may ask for.
const maxAPIWait = time.Minute

// An apiQuery is the query string of a call of OpenWhisk's API.
type apiQuery struct{ values url.Values }

func parseAPIQuery(query string) (apiQuery, error) {
	values, err := parseQuery(query)
	return apiQuery{values}, err
}

// flag returns a parameter that is true or false, in the words that the API takes.
func (q apiQuery) flag(name string, otherwise bool) (bool, error) {
	if !q.values.Has(name) {
		return otherwise, nil
	}
	text := q.values.Get(name)
	switch strings.ToLower(text) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, malformedQuery(name, fmt.Sprintf("'%s' is not a valid Boolean value", short(text)))
}

// page returns which part of a list of a collection is asked for.
func (q apiQuery) page(collection whisk.Collection) (page whisk.Page, err error) {
	page.Limit = whisk.DefaultLimit
	if err := q.number("limit", collection, &page.Limit); err != nil {
		return page, err
	}
	if page.Limit < 0 || page.Limit > whisk.MaxLimit {
		return page, malformedQuery("limit", fmt.Sprintf("The value '%d' is not in the range of 0 to %d for %s.",
			page.Limit, whisk.MaxLimit, collection))
	}
	if page.Limit == 0 {
		page.Limit = whisk.MaxLimit
	}
	if err := q.number("skip", collection, &page.Skip); err != nil {
		return page, err
	}
	if page.Skip < 0 {
		return page, malformedQuery("skip", fmt.Sprintf("The value '%d' is not greater than or equal to 0 for %s.", page.Skip, collection))
	}
	page.Count, err = q.flag("count", false)
	return page, err
}

// number sets n to a parameter, if it is there.
func (q apiQuery) number(name string, collection whisk.Collection, n *int) error {
	if !q.values.Has(name) {
		return nil
	}
	text := q.values.Get(name)
	value, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return malformedQuery(name, fmt.Sprintf("The value '%s' is not an integer for %s.", short(text), collection))
	}
	*n = int(value)
	return nil
}

// activations returns which activations are asked for.
func (q apiQuery) activations() (query whisk.ActivationQuery, err error) {
	if query.Page, err = q.page("activations"); err != nil {
		return query, err
	}
	if query.Docs, err = q.flag("docs", false); err != nil {
		return query, err
	}
	if query.Docs && query.Count {
		return query, actions.Errorf(actions.Invalid, "The parameter 'docs' is not permitted with 'count'.")
	}
	if query.Name, err = q.name(); err != nil {
		return query, err
	}
	if query.Since, err = q.epoch("since"); err != nil {
		return query, err
	}
	query.Upto, err = q.epoch("upto")
	return query, err
}

// name returns the name by which activations are chosen: one or two segments.
func (q apiQuery) name() (string, error) {
	text := q.values.Get("name")
	var names []string
	for name := range strings.SplitSeq(text, "/") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		names = append(names, name)
		if whisk.CheckSegment(name) != nil || len(names) > 2 {
			return "", malformedQuery("name", "Parameter may be a 'simple' name or 'package-name/simple' name: "+short(text))
		}
	}
	return strings.Join(names, "/"), nil
}

// epoch returns a time in milliseconds since 1970, 0 when none is given.
func (q apiQuery) epoch(name string) (int64, error) {
	if !q.values.Has(name) {
		return 0, nil
	}
	text := q.values.Get(name)
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, malformedQuery(name, "Parameter is not a valid value for epoch seconds: "+short(text))
	}
	return max(0, ms), nil
}

// wait returns how long a blocking invocation may be waited for, 0 when that is not said.
func (q apiQuery) wait() (time.Duration, error) {
	if !q.values.Has("timeout") {
		return 0, nil
	}
	ms, err := strconv.ParseInt(q.values.Get("timeout"), 10, 32)
	wait := time.Duration(ms) * time.Millisecond
	if err != nil || wait <= 0 || wait > maxAPIWait {
		return 0, malformedQuery("timeout", fmt.Sprintf("Timeout must be number of milliseconds up to %d.", maxAPIWait.Milliseconds()))
	}
	return wait, nil
}
