package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// A rulePut is the body of a PUT. A status in it says nothing.
type rulePut struct {
	Trigger     *reference       `json:"trigger"`
	Action      *reference       `json:"action"`
	Version     *string          `json:"version"`
	Publish     *bool            `json:"publish"`
	Annotations *whisk.KeyValues `json:"annotations"`
}

// Whether a rule is active stands in its trigger alone: a rule whose trigger is gone, or
// has come back, is not.

// putRule makes a rule, which is active, or changes one, which stays what it is.
func (c *Controller) putRule(ctx context.Context, n whisk.Name, body json.RawMessage, overwrite bool) (any, error) {
	var in rulePut
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := c.checkSizes(nil, in.Annotations); err != nil {
		return nil, err
	}
	if err := checkVersion(in.Version); err != nil {
		return nil, err
	}
	var doc whisk.Rule
	err := c.cfg.Store.Update(func(tx *store.Tx) (err error) {
		status := whisk.Active
		doc, err = put(tx, key(whisk.Rules, n), overwrite,
			func() (whisk.Rule, error) {
				if in.Trigger == nil || in.Action == nil {
					return whisk.Rule{}, invalid(ruleNeedsBoth)
				}
				return changedRule(whisk.Rule{Namespace: n.Namespace, Name: n.Entity, Version: firstVersion}, in), nil
			},
			func(old whisk.Rule) (whisk.Rule, error) {
				if status, err = unlink(tx, old); err != nil {
					return old, err
				}
				old.Version = nextVersion(old.Version)
				return changedRule(old, in), nil
			})
		if err == nil {
			err = c.checkLinks(ctx, tx, doc)
		}
		if err == nil {
			err = link(tx, doc, status)
		}
		doc.Status = status
		return err
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// changedRule is a rule with what the body of a PUT says.
func changedRule(r whisk.Rule, in rulePut) whisk.Rule {
	for _, name := range []struct {
		in   *reference
		into *whisk.PathName
	}{{in.Trigger, &r.Trigger}, {in.Action, &r.Action}} {
		if name.in != nil {
			n := resolved(r.Namespace, name.in.Name)
			*name.into = whisk.PathName{Path: n.Path(), Name: n.Entity}
		}
	}
	if in.Version != nil {
		r.Version = *in.Version
	}
	if in.Publish != nil {
		r.Publish = *in.Publish
	}
	if in.Annotations != nil {
		r.Annotations = in.Annotations.Unique()
	}
	r.Updated = now()
	return r
}

// nameOf is the name of an entity in two parts.
func nameOf(p whisk.PathName) whisk.Name {
	n, _ := fullName(p.Path+"/"+p.Name, "") // it was one when it was kept
	return n
}

// checkLinks refuses a rule of a trigger or an action that is not there or another's.
func (c *Controller) checkLinks(ctx context.Context, tx *store.Tx, r whisk.Rule) error {
	trigger, target := nameOf(r.Trigger), nameOf(r.Action)
	if trigger.Namespace != r.Namespace {
		return forbidden()
	}
	if err := c.mayRead(r.Namespace, whisk.Actions, target); err != nil {
		return err
	}
	_, err := load[whisk.Trigger](tx, key(whisk.Triggers, trigger))
	if actions.CodeOf(err) == actions.NotFound || trigger.Package != "" {
		return invalid("trigger %s does not exist", trigger)
	}
	if err != nil {
		return err
	}
	_, err = c.resolve(ctx, tx, target)
	if actions.CodeOf(err) == actions.NotFound {
		return invalid("action %s does not exist", target)
	}
	return err
}

// ruleKey is a rule in its trigger.
func ruleKey(r whisk.Rule) string { return r.Namespace + "/" + r.Name }

// link writes a rule into its trigger.
func link(tx *store.Tx, r whisk.Rule, status string) error {
	k := key(whisk.Triggers, nameOf(r.Trigger))
	t, err := load[whisk.Trigger](tx, k)
	if err != nil {
		return err
	}
	t.Rules = maps.Clone(t.Rules)
	if t.Rules == nil {
		t.Rules = make(map[string]whisk.TriggerRule)
	}
	t.Rules[ruleKey(r)] = whisk.TriggerRule{Action: r.Action, Status: status}
	return save(tx, k, t)
}

// unlink removes a rule from its trigger and says what it was there.
func unlink(tx *store.Tx, r whisk.Rule) (status string, err error) {
	k := key(whisk.Triggers, nameOf(r.Trigger))
	t, err := load[whisk.Trigger](tx, k)
	if code := actions.CodeOf(err); code == actions.NotFound || code == actions.Conflict {
		return whisk.Inactive, nil
	}
	if err != nil {
		return "", err
	}
	status = cmp.Or(t.Rules[ruleKey(r)].Status, whisk.Inactive)
	delete(t.Rules, ruleKey(r))
	return status, save(tx, k, t)
}

// ruleDocument is a rule as GET shows it.
func ruleDocument(tx *store.Tx, n whisk.Name) (any, error) {
	r, err := load[whisk.Rule](tx, key(whisk.Rules, n))
	if err != nil {
		return nil, err
	}
	r.Status = whisk.Inactive
	t, err := load[whisk.Trigger](tx, key(whisk.Triggers, nameOf(r.Trigger)))
	if err == nil {
		r.Status = cmp.Or(t.Rules[ruleKey(r)].Status, whisk.Inactive)
	}
	return r, nil
}

func deleteRule(tx *store.Tx, n whisk.Name) (any, error) {
	r, err := load[whisk.Rule](tx, key(whisk.Rules, n))
	if err != nil {
		return nil, err
	}
	_, err = unlink(tx, r)
	r.Status = whisk.Inactive
	return r, err
}

// SetRule makes a rule whisk.Active or whisk.Inactive. The errors are NotFound, also when
// its trigger is gone and it should become active, Forbidden, Invalid and that of the store.
func (c *Controller) SetRule(_ context.Context, caller string, n whisk.Name, status string) error {
	n = resolved(caller, n)
	switch {
	case n.Namespace != caller:
		return forbidden()
	case n.Package != "" || n.Entity == "":
		return notFound()
	case status != whisk.Active && status != whisk.Inactive:
		return malformed("'%.40s' is not a recognized rule state, must be one of ['active', 'inactive']", status)
	}
	return c.cfg.Store.Update(func(tx *store.Tx) error {
		r, err := load[whisk.Rule](tx, key(whisk.Rules, n))
		if err != nil {
			return err
		}
		err = link(tx, r, status)
		switch code := actions.CodeOf(err); {
		case code != actions.NotFound && code != actions.Conflict:
			return err
		case status == whisk.Inactive:
			return nil // as it is
		}
		return actions.Errorf(actions.NotFound, ruleNeedsTrigger)
	})
}
