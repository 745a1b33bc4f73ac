package controller

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// headersArgument has the headers of the request that fired a trigger. Actions get it, the
// trigger's own record does not.
const headersArgument = "__ow_headers"

// A ruleResult is a line in the logs of the activation of a trigger.
type ruleResult struct {
	StatusCode   int    `json:"statusCode"`
	Success      bool   `json:"success"`
	ActivationID string `json:"activationId,omitempty"`
	Error        string `json:"error,omitempty"`
	Rule         string `json:"rule"`
	Action       string `json:"action"`
}

// Fire fires a trigger: the action of each active rule is invoked with the trigger's
// parameters and args, which win. It returns the id of the trigger's activation, whose logs
// say what became of the rules, or "" if no rule is active. All that it tells of is on disk.
// The errors are NotFound, Conflict (the name is another collection's), Forbidden, Invalid,
// TooLarge, Unavailable, and that of the store.
func (c *Controller) Fire(ctx context.Context, caller string, n whisk.Name, args json.RawMessage) (id string, err error) {
	n = resolved(caller, n)
	if n.Namespace != caller {
		return "", forbidden()
	}
	var t whisk.Trigger
	err = c.cfg.Store.View(func(tx *store.Tx) (err error) {
		t, err = load[whisk.Trigger](tx, key(whisk.Triggers, n))
		return err
	})
	if err != nil {
		return "", err
	}
	if err := c.checkArguments(whisk.Action{}, args); err != nil {
		return "", err
	}
	active := false
	for _, rule := range t.Rules {
		active = active || rule.Status == whisk.Active
	}
	if !active {
		return "", nil
	}
	return c.fire(ctx, n, t, args)
}

func (c *Controller) fire(ctx context.Context, n whisk.Name, t whisk.Trigger, args json.RawMessage) (string, error) {
	payload := map[string]json.RawMessage{}
	if len(args) > 0 {
		if err := decode(args, &payload); err != nil {
			return "", err
		}
	}
	delete(payload, headersArgument)
	result, err := encode(payload)
	if err != nil {
		return "", err
	}
	merged, err := merge(t.Parameters, args)
	if err != nil {
		return "", err
	}
	f := newFlight(n.Namespace, resolution{name: n}, nil)
	own, err := c.enter(ctx, f.id, false)
	if err != nil {
		return "", err
	}
	defer c.leave(f.id, false)
	var logs []string
	for _, rule := range slices.Sorted(maps.Keys(t.Rules)) {
		line, err := encode(c.follow(own, f.id, n.Namespace, rule, t.Rules[rule], merged))
		if err != nil {
			return "", err
		}
		logs = append(logs, string(line))
	}
	return f.id, c.keep(own, f, whisk.Activation{
		ID: f.id, Namespace: n.Namespace, Name: t.Name, Version: t.Version, Subject: n.Namespace,
		Start: f.asked.UnixMilli(), Response: whisk.Response{Code: whisk.Success, Result: result}, Annotations: whisk.KeyValues{},
	}, logs)
}

// follow invokes the action of a rule, if that is active.
func (c *Controller) follow(ctx context.Context, cause, caller, rule string, r whisk.TriggerRule, args json.RawMessage) ruleResult {
	result := ruleResult{Rule: rule, Action: r.Action.Path + "/" + r.Action.Name}
	if r.Status != whisk.Active {
		result.StatusCode = whisk.ApplicationError
		result.Error = "Rule '" + rule + "' is inactive, action '" + result.Action + "' was not activated."
		return result
	}
	id, err := c.invokeFor(ctx, cause, caller, nameOf(r.Action), args)
	switch actions.CodeOf(err) {
	case "":
		result.Success, result.ActivationID = true, id
	case actions.Internal, actions.Unavailable:
		result.StatusCode, result.Error = whisk.WhiskError, err.Error()
	default:
		result.StatusCode, result.Error = whisk.ApplicationError, err.Error()
	}
	return result
}

// invokeFor invokes an action that something else has caused, without waiting for it.
func (c *Controller) invokeFor(ctx context.Context, cause, caller string, n whisk.Name, args json.RawMessage) (string, error) {
	found, err := c.find(ctx, caller, n)
	if err != nil {
		return "", err
	}
	if err := c.checkArguments(found.action.Action, args); err != nil {
		return "", err
	}
	f := newFlight(caller, found, args)
	f.cause = cause
	return f.id, c.launch(ctx, f)
}
