package cloudevent

import (
	"slices"
	"strings"
)

// Overrides are the extensions that a SinkBinding of Knative says for every event, by name. A
// name may have capitals there and is none of the specification then: it counts in lower case, as
// for Knative's own senders. They come in the order of their names.
//
// The error is Invalid: a name that no extension may have, or one that is there twice.
func Overrides(extensions map[string]string) ([]Attribute, error) {
	probe := Event{ID: "1", Source: "/", Type: "overrides"}
	for name, value := range extensions {
		probe.Extensions = append(probe.Extensions, Attribute{Name: strings.ToLower(name), Value: value})
	}
	slices.SortFunc(probe.Extensions, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	if err := probe.Validate(); err != nil {
		return nil, err
	}
	return probe.Extensions, nil
}
