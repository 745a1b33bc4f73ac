package knative

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deepfn/deepfn/actions"
)

// Remove removes all objects that deepfn has made for a function, and nothing else. A Broker
// that Triggers of others use is left. The error is NotFound when there is nothing.
func (c *Cluster) Remove(ctx context.Context, name string, report func(Step)) error {
	if err := c.installed(ctx, services()); err != nil {
		return err
	}
	found := false
	// Events stop before the function goes, and its code goes last.
	for _, k := range []kind{triggers(), sinkBindings(), services(), brokers(), configMaps()} {
		list, err := c.list(ctx, k, name)
		if err != nil {
			return err
		}
		for _, u := range list {
			found = true
			step := Step{Verb: Removed, Kind: k.word, Name: u.GetName()}
			if k == brokers() {
				if step.Why, err = c.usersOf(ctx, u.GetName(), name); err != nil {
					return err
				}
			}
			if step.Why != "" {
				step.Verb = Left
			} else if err := c.remove(ctx, k, u.GetName()); err != nil {
				return err
			}
			report(step)
		}
	}
	if !found {
		return actions.Errorf(actions.NotFound, "deepfn has deployed nothing called %s in the namespace %s; 'deepfn status knative' lists what it has", name, c.namespace)
	}
	return nil
}

// usersOf says who else uses a Broker of a function; empty when nobody does.
func (c *Cluster) usersOf(ctx context.Context, broker, function string) (string, error) {
	list, err := c.of(triggers()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", c.failure(ctx, "the list of triggers", err)
	}
	n := 0
	for _, u := range list.Items {
		of, _, _ := unstructured.NestedString(u.Object, "spec", "broker")
		if of == broker && !isOf(&u, function) {
			n++
		}
	}
	if n == 0 {
		return "", nil
	}
	return fmt.Sprintf("%d triggers of others use it", n), nil
}

// remove removes one object. One that is gone already is as good.
func (c *Cluster) remove(ctx context.Context, k kind, name string) error {
	err := c.of(k).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failure(ctx, k.word+" "+name, err)
	}
	return nil
}
