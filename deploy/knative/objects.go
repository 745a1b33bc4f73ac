package knative

import (
	"context"
	"fmt"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// A kind is one of the kinds of objects that we make.
type kind struct {
	resource schema.GroupVersionResource
	// name is the kind as Kubernetes writes it, word as people read it.
	name, word string
	// of is what has to be installed for it.
	of string
}

const (
	servingName  = "Knative Serving"
	eventingName = "Knative Eventing"
)

func configMaps() kind {
	return kind{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap", "configmap", "Kubernetes"}
}

func brokers() kind {
	return kind{schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"}, "Broker", "broker", eventingName}
}

func sinkBindings() kind {
	return kind{schema.GroupVersionResource{Group: "sources.knative.dev", Version: "v1", Resource: "sinkbindings"}, "SinkBinding", "sinkbinding", eventingName}
}

func services() kind {
	return kind{schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}, "Service", "service", servingName}
}

func triggers() kind {
	return kind{schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"}, "Trigger", "trigger", eventingName}
}

// A typed is an object of Knative's, which knows its defaults and what it may be.
type typed interface {
	runtime.Object
	metav1.Object
	apis.Defaultable
	apis.Validatable
}

// An object is one that is wanted.
type object struct {
	kind
	*unstructured.Unstructured
}

// A built is an object with its Go type.
type built struct {
	kind
	runtime.Object
}

// objects returns what is wanted, in the order in which it is made. Each of Knative's has
// passed Knative's own check with the given settings.
func objects(ctx context.Context, s settings, d wish.Deployment, namespace string) ([]object, error) {
	if err := sound(d); err != nil {
		return nil, err
	}
	list, err := build(d, namespace)
	if err != nil {
		return nil, err
	}
	out := make([]object, 0, len(list))
	for _, b := range list {
		if t, ok := b.Object.(typed); ok {
			if err := s.check(ctx, b.kind, t); err != nil {
				return nil, err
			}
		}
		u, err := untyped(b.Object)
		if err != nil {
			return nil, err
		}
		out = append(out, object{b.kind, u})
	}
	return out, nil
}

// build makes the objects.
func build(d wish.Deployment, namespace string) (out []built, err error) {
	if d.Code != nil {
		out = append(out, built{configMaps(), configMap(d, namespace)})
	}
	if d.Broker.Create {
		out = append(out, built{brokers(), broker(d, namespace)})
	}
	if d.Sink != "" {
		b, err := binding(d, namespace)
		if err != nil {
			return nil, err
		}
		out = append(out, built{sinkBindings(), b})
	}
	svc, err := service(d, namespace)
	if err != nil {
		return nil, err
	}
	out = append(out, built{services(), svc})
	for _, t := range d.Triggers {
		o, err := trigger(d, namespace, t)
		if err != nil {
			return nil, err
		}
		out = append(out, built{triggers(), o})
	}
	return out, nil
}

// sound says what is wrong with what is wanted that Knative would not see.
func sound(d wish.Deployment) error {
	switch {
	case d.Name == "" || d.Model == "" || d.Release == "":
		return actions.Errorf(actions.Invalid, "a deployment wants a name, a model and a release")
	case d.Image == "":
		return actions.Errorf(actions.Invalid, "--image: name the image of the function")
	case d.Instances < 0 || d.Concurrency != nil && *d.Concurrency < 0:
		return actions.Errorf(actions.Invalid, "--instances and --concurrency want 0 or more")
	case d.Code != nil && len(d.Code.Data) > wish.MaxCode:
		return actions.Errorf(actions.TooLarge, "the code has %d KiB, and a ConfigMap of Kubernetes holds %d: put the model into the image and deploy it by its name",
			len(d.Code.Data)>>10, wish.MaxCode>>10)
	case d.Node != "" && socketOf(d.Node) == "":
		return actions.Errorf(actions.Invalid, "--node %s: want unix:///FOLDER/NAME of a socket on the nodes", d.Node)
	case d.Node != "" && d.Code != nil:
		return actions.Errorf(actions.Invalid, "--node and code exclude each other: the models are those of the node runtime")
	case d.Node != "" && d.GPUs > 0:
		return actions.Errorf(actions.Invalid, "--node and --gpu exclude each other: the node runtime has the GPUs")
	case d.Delivery != (wish.Delivery{}) && len(d.Triggers) == 0:
		return actions.Errorf(actions.Invalid, "--retry, --backoff, --backoff-delay, --delivery-timeout and --dead-letter are for events: say which with --on")
	case d.Sink == "" && len(d.Overrides) > 0:
		return actions.Errorf(actions.Invalid, "--ce-override is for the events to a --sink")
	case d.Broker.Class != "" && !d.Broker.Create:
		return actions.Errorf(actions.Invalid, "--broker-class is for a broker that is made, with --create-broker")
	}
	for key := range d.Scale {
		if !knownScale(key) {
			return actions.Errorf(actions.Invalid, "--autoscale %s: Knative has no such setting; there are %q", key, scaleKeys())
		}
	}
	return nil
}

// codeName is the name of the ConfigMap of the function's code.
func codeName(d wish.Deployment) string {
	return child(d, "code-"+digest([]byte(d.Code.File), d.Code.Data))
}

// configMap has the code of a function. It never changes: other code has another name.
func configMap(d wish.Deployment, namespace string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta(d, namespace, codeName(d), "code"),
		Immutable:  new(true),
	}
	if utf8.Valid(d.Code.Data) { // people can read it there
		m.Data = map[string]string{d.Code.File: string(d.Code.Data)}
	} else {
		m.BinaryData = map[string][]byte{d.Code.File: d.Code.Data}
	}
	return m
}

// untyped is an object as it is sent and printed: without a status, and without the fields
// that its Go type writes although they are empty.
func untyped(o runtime.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("knative: %T: %w", o, err)
	}
	delete(content, "status")
	containers, _, _ := unstructured.NestedSlice(content, "spec", "template", "spec", "containers")
	for _, c := range containers {
		fields, _ := c.(map[string]any)
		if r, ok := fields["resources"].(map[string]any); ok && len(r) == 0 {
			delete(fields, "resources")
		}
	}
	if containers != nil {
		if err := unstructured.SetNestedSlice(content, containers, "spec", "template", "spec", "containers"); err != nil {
			return nil, fmt.Errorf("knative: %T: %w", o, err)
		}
	}
	for _, empty := range [][]string{{"spec", "filter"}, {"spec", "config"}} {
		if m, found, _ := unstructured.NestedMap(content, empty...); found && len(m) == 0 {
			unstructured.RemoveNestedField(content, empty...)
		}
	}
	return &unstructured.Unstructured{Object: content}, nil
}
