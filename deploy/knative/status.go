package knative

import (
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deepfn/deepfn/actions"
)

// A Status is a function and its objects.
type Status struct {
	Name         string `json:"name"`
	Namespace    string `json:"namespace"`
	Model        string `json:"model"`
	ModelVersion string `json:"model_version,omitempty"`
	// Release is the version of deepfn that has deployed it.
	Release string `json:"release"`
	URL     string `json:"url,omitempty"`
	Condition
	// Revisions are those that have traffic, and the latest one.
	Revisions []Revision `json:"revisions"`
	// Objects are its Broker, Triggers and SinkBinding.
	Objects []Object `json:"objects,omitempty"`
}

// A Revision is one state of a function.
type Revision struct {
	Name string `json:"name"`
	// Percent is its part of the requests.
	Percent int64 `json:"percent"`
	// Replicas is how many there are now: zero when it has nothing to do.
	Replicas int64  `json:"replicas"`
	Image    string `json:"image"`
	Condition
}

// An Object is another object of a function.
type Object struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Address is the URL of a Broker, of the sink of a SinkBinding, of the subscriber of a
	// Trigger.
	Address string `json:"address,omitempty"`
	Condition
}

// Status returns the functions of those names, or all that deepfn has deployed in the namespace.
// The error is NotFound when one of the names is not there.
func (c *Cluster) Status(ctx context.Context, names []string) ([]Status, error) {
	if err := c.installed(ctx, services()); err != nil {
		return nil, err
	}
	there, err := c.list(ctx, services(), "")
	if err != nil {
		return nil, err
	}
	out := []Status{}
	for _, svc := range there {
		if len(names) > 0 && !slices.Contains(names, svc.GetName()) {
			continue
		}
		s, err := c.status(ctx, &svc)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for _, name := range names {
		if !slices.ContainsFunc(out, func(s Status) bool { return s.Name == name }) {
			return nil, actions.Errorf(actions.NotFound, "deepfn has deployed no function %s in the namespace %s; 'deepfn status knative' lists what it has", name, c.namespace)
		}
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (c *Cluster) status(ctx context.Context, svc *unstructured.Unstructured) (Status, error) {
	notes := svc.GetAnnotations()
	s := Status{
		Name: svc.GetName(), Namespace: c.namespace, Condition: conditionOf(svc),
		Model: notes[annotationModel], ModelVersion: notes[annotationModelVersion], Release: notes[annotationRelease],
	}
	s.URL, _, _ = unstructured.NestedString(svc.Object, "status", "url")
	var err error
	if s.Revisions, err = c.revisions(ctx, svc); err != nil {
		return s, err
	}
	for _, k := range []kind{brokers(), sinkBindings(), triggers()} {
		list, err := c.list(ctx, k, s.Name)
		if err != nil {
			return s, err
		}
		for _, u := range list {
			s.Objects = append(s.Objects, Object{Kind: k.word, Name: u.GetName(), Address: addressOf(&u), Condition: conditionOf(&u)})
		}
	}
	return s, nil
}

// revisions returns the revisions that have traffic, and the latest, the newest first.
func (c *Cluster) revisions(ctx context.Context, svc *unstructured.Unstructured) ([]Revision, error) {
	percent := map[string]int64{}
	traffic, _, _ := unstructured.NestedSlice(svc.Object, "status", "traffic")
	for _, t := range traffic {
		target, _ := t.(map[string]any)
		name, _, _ := unstructured.NestedString(target, "revisionName")
		n, _, _ := unstructured.NestedInt64(target, "percent")
		percent[name] += n
	}
	latest, _, _ := unstructured.NestedString(svc.Object, "status", "latestCreatedRevisionName")
	percent[latest] += 0
	out := []Revision{}
	for name, part := range percent {
		if name == "" {
			continue
		}
		u, err := c.objects.Resource(revisionResource()).Namespace(c.namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, c.failure(ctx, "revision "+name, err)
		}
		r := Revision{Name: name, Percent: part, Condition: conditionOf(u)}
		r.Replicas, _, _ = unstructured.NestedInt64(u.Object, "status", "actualReplicas")
		containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "containers")
		if len(containers) > 0 {
			first, _ := containers[0].(map[string]any)
			r.Image, _, _ = unstructured.NestedString(first, "image")
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Revision) int { return strings.Compare(b.Name, a.Name) })
	return out, nil
}

func revisionResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "revisions"}
}

// addressOf is the URL that an object's status names.
func addressOf(u *unstructured.Unstructured) string {
	for _, at := range [][]string{{"status", "address", "url"}, {"status", "sinkUri"}, {"status", "subscriberUri"}} {
		if text, found, _ := unstructured.NestedString(u.Object, at...); found {
			return text
		}
	}
	return ""
}
