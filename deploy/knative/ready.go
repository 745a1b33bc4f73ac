package knative

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deepfn/deepfn/actions"
)

// The states of a Condition.
const (
	Ready    = "ready"
	NotReady = "not ready"
	Waiting  = "waiting"
)

// A Condition says whether an object does what it is for.
type Condition struct {
	// State is Ready; NotReady when its controller says so; Waiting while it does not know.
	State string `json:"state"`
	// Reason says why it is not ready, in Knative's words.
	Reason string `json:"reason,omitempty"`
}

// conditionOf reads an object's own condition Ready, if it is of the object as it is now.
func conditionOf(u *unstructured.Unstructured) Condition {
	seen, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if seen != u.GetGeneration() {
		return Condition{State: Waiting, Reason: "its controller has not looked at it yet"}
	}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		fields, _ := item.(map[string]any)
		text := func(name string) string { s, _, _ := unstructured.NestedString(fields, name); return s }
		if text("type") != "Ready" {
			continue
		}
		out := Condition{Reason: strings.Trim(text("reason")+": "+text("message"), ": ")}
		switch text("status") {
		case "True":
			return Condition{State: Ready}
		case "False":
			out.State = NotReady
		default:
			out.State = Waiting
		}
		return out
	}
	return Condition{State: Waiting, Reason: "its controller has not said anything yet"}
}

// Wait waits until a function and its objects are ready, and returns how they are then. When ctx
// ends before, the error is Deadline; when one of them says that it cannot be, Unavailable;
// both with its reasons.
func (c *Cluster) Wait(ctx context.Context, name string) (Status, error) {
	failing := time.Time{}
	tick := time.NewTicker(c.cfg.Poll)
	defer tick.Stop()
	var last Status
	for {
		list, err := c.Status(ctx, []string{name})
		if err == nil {
			last = list[0]
			state := last.State
			for _, o := range last.Objects {
				if last.State == Ready { // else a Trigger says that its subscriber has no address
					state = worse(state, o.State)
				}
			}
			switch {
			case state == Ready:
				return last, nil
			case state != NotReady:
				failing = time.Time{}
			case failing.IsZero():
				failing = time.Now()
			case time.Since(failing) >= c.cfg.Settle:
				return last, actions.Errorf(actions.Unavailable, "%s is not ready: %s", name, c.reasons(ctx, last))
			}
		} else if ctx.Err() == nil {
			return last, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, c.late(ctx, name, last)
		}
	}
}

// worse is the state of two objects together.
func worse(a, b string) string {
	order := []string{Ready, Waiting, NotReady}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// late is the error of a function that is not ready in time.
func (c *Cluster) late(ctx context.Context, name string, last Status) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return actions.Errorf(actions.Canceled, "%s: it was not waited for any longer: %w", name, ctx.Err())
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	return actions.Errorf(actions.Deadline, "%s is not ready in time: %s; what was sent stays, and 'deepfn status knative %s' shows it", name, c.reasons(asking, last), name)
}

// reasons are why a function is not ready.
func (c *Cluster) reasons(ctx context.Context, s Status) string {
	var texts []string
	add := func(what string, cond Condition) {
		if cond.State != Ready && cond.Reason != "" {
			texts = append(texts, what+": "+cond.Reason)
		}
	}
	add("service "+s.Name, s.Condition)
	for _, r := range s.Revisions {
		add("revision "+r.Name, r.Condition)
		if r.State != Ready {
			texts = append(texts, c.lastWarnings(ctx, r.Name)...)
		}
	}
	for _, o := range s.Objects {
		add(o.Kind+" "+o.Name, o.Condition)
	}
	if len(texts) == 0 {
		return "nothing says why"
	}
	return strings.Join(texts, "; ")
}

// lastWarnings are the warnings that Kubernetes has noted of a revision and its pods, of
// which the status of a revision says nothing: an image that is not there, no node with room, a
// Deployment that is refused. Who may not read them gets none.
func (c *Cluster) lastWarnings(ctx context.Context, revision string) []string {
	resource := schema.GroupVersionResource{Version: "v1", Resource: "events"}
	list, err := c.objects.Resource(resource).Namespace(c.namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil {
		return nil
	}
	var texts []string
	for _, u := range list.Items {
		var e struct {
			InvolvedObject struct{ Kind, Name string }
			Reason         string
			Message        string
		}
		raw, err := json.Marshal(u.Object)
		if err != nil || json.Unmarshal(raw, &e) != nil {
			continue
		}
		if e.InvolvedObject.Name == revision || strings.HasPrefix(e.InvolvedObject.Name, revision+"-") {
			texts = append(texts, fmt.Sprintf("%s %s: %s", strings.ToLower(e.InvolvedObject.Kind), e.Reason, e.Message))
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}
