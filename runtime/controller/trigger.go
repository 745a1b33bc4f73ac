package controller

import (
	"encoding/json"
	"strings"

	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// A triggerPut is the body of a PUT.
type triggerPut struct {
	Parameters  *whisk.KeyValues `json:"parameters"`
	Version     *string          `json:"version"`
	Publish     *bool            `json:"publish"`
	Annotations *whisk.KeyValues `json:"annotations"`
}

// putTrigger makes or changes a trigger. Its rules stay.
func (c *Controller) putTrigger(n whisk.Name, body json.RawMessage, overwrite bool) (any, error) {
	var in triggerPut
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := c.checkSizes(in.Parameters, in.Annotations); err != nil {
		return nil, err
	}
	if err := checkVersion(in.Version); err != nil {
		return nil, err
	}
	var doc whisk.Trigger
	err := c.cfg.Store.Update(func(tx *store.Tx) (err error) {
		doc, err = put(tx, key(whisk.Triggers, n), overwrite,
			func() (whisk.Trigger, error) {
				t := changedTrigger(whisk.Trigger{Namespace: n.Namespace, Name: n.Entity, Version: firstVersion}, in)
				return t, checkFeed(t)
			},
			func(old whisk.Trigger) (whisk.Trigger, error) {
				old.Version = nextVersion(old.Version)
				return changedTrigger(old, in), nil
			})
		return err
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// changedTrigger is a trigger with what the body of a PUT says.
func changedTrigger(t whisk.Trigger, in triggerPut) whisk.Trigger {
	if in.Parameters != nil {
		t.Parameters = in.Parameters.Unique()
	}
	if in.Version != nil {
		t.Version = *in.Version
	}
	if in.Publish != nil {
		t.Publish = *in.Publish
	}
	if in.Annotations != nil {
		t.Annotations = in.Annotations.Unique()
	}
	t.Updated = now()
	return t
}

// checkFeed refuses a trigger whose feed cannot be the name of an action.
func checkFeed(t whisk.Trigger) error {
	raw := t.Annotations.Lookup("feed")
	if raw == nil {
		return nil
	}
	var feed string
	if json.Unmarshal(raw, &feed) != nil || strings.Trim(feed, "/") == "" {
		return invalid(feedInvalid)
	}
	for part := range strings.SplitSeq(strings.Trim(feed, "/"), "/") {
		if whisk.CheckSegment(part) != nil {
			return invalid(feedInvalid)
		}
	}
	return nil
}
