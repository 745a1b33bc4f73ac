package knative

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

const (
	// requestTimeout bounds one request to the API server.
	requestTimeout = 30 * time.Second
	// bindTime is how long a SinkBinding is waited for, which a Service can do without.
	bindTime = 5 * time.Second
	// The namespaces that Knative is installed in.
	servingNamespace, eventingNamespace = "knative-serving", "knative-eventing"
)

// Config says which Knative a Cluster is.
type Config struct {
	// Cluster is the one that is meant, in the words of kubectl.
	Cluster wish.Cluster
	// Warn is told what the API server warns of. Nil drops it.
	Warn func(text string)
	// Poll is the time between two looks at what is not ready yet. The default is half a
	// second.
	Poll time.Duration
	// Settle is how long an object has to say that it failed before it is believed: a
	// controller may say so of one that has just been made. The default is 5 seconds.
	Settle time.Duration
}

// A Cluster is a namespace of a Kubernetes with a Knative. Many may use it at the same time.
type Cluster struct {
	cfg       Config
	host      string
	namespace string
	objects   dynamic.Interface
	discover  discovery.DiscoveryInterface
}

// Connect finds the cluster. It asks it nothing yet. The error is Invalid when the settings
// name none.
func Connect(cfg Config) (*Cluster, error) {
	if cfg.Poll == 0 {
		cfg.Poll = 500 * time.Millisecond
	}
	if cfg.Settle == 0 {
		cfg.Settle = 5 * time.Second
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = cfg.Cluster.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: cfg.Cluster.Context}
	overrides.Context.Namespace = cfg.Cluster.Namespace
	kubeconfig := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	client, err := kubeconfig.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err) || errors.Is(err, rest.ErrNotInCluster):
		return nil, actions.Errorf(actions.Invalid, "no Kubernetes is named: --kubeconfig FILE, KUBECONFIG, or ~/.kube/config")
	case err != nil:
		return nil, actions.Errorf(actions.Invalid, "kubeconfig: %w", err)
	}
	namespace, _, err := kubeconfig.Namespace()
	if err != nil {
		return nil, actions.Errorf(actions.Invalid, "kubeconfig: %w", err)
	}
	client.Timeout, client.UserAgent = requestTimeout, fieldManager
	client.QPS = -1 // a command asks little, and the server bounds all who ask it
	client.WarningHandler = warnings{cfg.Warn}
	c := &Cluster{cfg: cfg, host: client.Host, namespace: namespace}
	if c.objects, err = dynamic.NewForConfig(client); err != nil {
		return nil, actions.Errorf(actions.Invalid, "kubeconfig: %w", err)
	}
	if c.discover, err = discovery.NewDiscoveryClientForConfig(client); err != nil {
		return nil, actions.Errorf(actions.Invalid, "kubeconfig: %w", err)
	}
	return c, nil
}

// warnings hands on what the API server warns of.
type warnings struct{ tell func(string) }

// HandleWarningHeader is the library's callback for one header.
func (w warnings) HandleWarningHeader(code int, _, text string) {
	if code == 299 && text != "" && w.tell != nil {
		w.tell(text)
	}
}

// of returns the client of one kind in our namespace.
func (c *Cluster) of(k kind) dynamic.ResourceInterface {
	return c.objects.Resource(k.resource).Namespace(c.namespace)
}

// The verbs of a Step.
const (
	Created   = "created"
	Changed   = "changed"
	Unchanged = "unchanged"
	Removed   = "removed"
	Left      = "left"
)

// A Step is what was done with one object.
type Step struct {
	// Verb is one of the above. Kind is a word for people, "service"; Name is the object's.
	Verb, Kind, Name string
	// Why is said of an object that was left, or removed while another deployment began.
	Why string
}

// String is the step in one line.
func (s Step) String() string {
	text := s.Verb + " " + s.Kind + " " + s.Name
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

// Apply makes the cluster have what is wanted, and reports each step when it is done. Triggers
// and the SinkBinding of the same function that are not wanted any more are removed. Objects
// that deepfn did not make, and fields that others have set, are a Conflict unless forced.
//
// What was done before an error stays; the next Apply goes on from there.
func (c *Cluster) Apply(ctx context.Context, d wish.Deployment, force bool, report func(Step)) error {
	list, err := c.plan(ctx, d)
	if err != nil {
		return err
	}
	// A SinkBinding goes before the Service changes, so that one revision sees both, and a Trigger
	// after its successor is there, so that no event falls between them.
	if err := c.prune(ctx, d, sinkBindings(), list, report); err != nil {
		return err
	}
	for _, o := range list {
		step, err := c.apply(ctx, d, o, force)
		if err != nil {
			return err
		}
		report(step)
		if o.kind == sinkBindings() && step.Verb != Unchanged {
			c.bound(ctx, o.GetName())
		}
	}
	return c.prune(ctx, d, triggers(), list, report)
}

// bound waits a while until the controller of a SinkBinding knows its sink. From then on each
// Service gets its K_SINK when it is made; before, it would get it in a second revision.
func (c *Cluster) bound(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, bindTime)
	defer cancel()
	tick := time.NewTicker(c.cfg.Poll)
	defer tick.Stop()
	for {
		u, err := c.of(sinkBindings()).Get(ctx, name, metav1.GetOptions{})
		if err == nil && addressOf(u) != "" && conditionOf(u).State != Waiting {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// plan returns the objects that are wanted, when the cluster has all that they need and its
// own settings allow them.
func (c *Cluster) plan(ctx context.Context, d wish.Deployment) ([]object, error) {
	if err := c.installed(ctx, services()); err != nil {
		return nil, err
	}
	if d.Sink != "" || d.Broker.Create || len(d.Triggers) > 0 {
		if err := c.installed(ctx, brokers()); err != nil {
			return nil, err
		}
	}
	if len(d.Triggers) > 0 && !d.Broker.Create {
		if err := c.hasBroker(ctx, brokerName(d)); err != nil {
			return nil, err
		}
	}
	s, err := c.settings(ctx)
	if err != nil {
		return nil, err
	}
	return objects(ctx, s, d, c.namespace)
}

// hasBroker says what to do when there is no Broker. Knative would take the Trigger and wait.
func (c *Cluster) hasBroker(ctx context.Context, name string) error {
	_, err := c.of(brokers()).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return actions.Errorf(actions.NotFound, "there is no broker %s in the namespace %s: --create-broker makes it, --broker names another", name, c.namespace)
	}
	if err != nil {
		return c.failure(ctx, "broker "+name, err)
	}
	return nil
}

// settings reads the settings that Knative's own checks look at. Who may not read them has
// the defaults; the cluster looks at each object once more anyway.
func (c *Cluster) settings(ctx context.Context) (settings, error) {
	var s settings
	for _, m := range []struct {
		namespace, name string
		into            *map[string]string
	}{
		{servingNamespace, "config-defaults", &s.defaults},
		{servingNamespace, "config-features", &s.features},
		{servingNamespace, "config-autoscaler", &s.autoscaler},
		{eventingNamespace, "config-features", &s.eventingFeatures},
		{eventingNamespace, "config-br-defaults", &s.brokerDefault},
	} {
		u, err := c.objects.Resource(configMaps().resource).Namespace(m.namespace).Get(ctx, m.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsForbidden(err):
			continue
		case err != nil:
			return s, c.failure(ctx, "configmap "+m.namespace+"/"+m.name, err)
		}
		if *m.into, _, err = unstructured.NestedStringMap(u.Object, "data"); err != nil {
			return s, settingsError(m.namespace+"/"+m.name, err)
		}
	}
	return s, nil
}

// apply sends one object, unless it is another's.
func (c *Cluster) apply(ctx context.Context, d wish.Deployment, o object, force bool) (Step, error) {
	step := Step{Verb: Created, Kind: o.word, Name: o.GetName()}
	what := o.word + " " + o.GetName()
	before, err := c.of(o.kind).Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return step, c.failure(ctx, what, err)
	}
	there := err == nil
	if there && !isOf(before, d.Name) {
		if o.kind == brokers() { // one that is there will do, whoever made it
			step.Verb, step.Why = Left, "it is there already"
			return step, nil
		}
		if !force {
			return step, actions.Errorf(actions.Conflict, "%s in the namespace %s is not of this function: it was made by %s; choose another --name, or take it over with --force",
				what, c.namespace, makerOf(before))
		}
	}
	after, err := c.send(ctx, o, force)
	if err != nil && o.kind == services() && boundByEventing(err) {
		after, err = c.send(ctx, o, true)
	}
	if err != nil {
		return step, c.failure(ctx, what, err)
	}
	switch {
	case there && same(before, after):
		step.Verb = Unchanged
	case there:
		step.Verb = Changed
	}
	return step, nil
}

func (c *Cluster) send(ctx context.Context, o object, force bool) (*unstructured.Unstructured, error) {
	return c.of(o.kind).Apply(ctx, o.GetName(), o.Unstructured, metav1.ApplyOptions{FieldManager: fieldManager, Force: force})
}

// isOf says whether an object is of a function that deepfn has deployed.
func isOf(u *unstructured.Unstructured, name string) bool {
	labels := u.GetLabels()
	return labels[labelManagedBy] == fieldManager && labels[labelInstance] == name
}

// makerOf is who has made an object, for people.
func makerOf(u *unstructured.Unstructured) string {
	labels := u.GetLabels()
	switch {
	case labels[labelManagedBy] == fieldManager:
		return fmt.Sprintf("deepfn for the function %s", labels[labelInstance])
	case labels[labelManagedBy] != "":
		return labels[labelManagedBy]
	}
	return "somebody else"
}

// same says whether nothing of an object has changed but its status.
func same(a, b *unstructured.Unstructured) bool {
	if a.GetGeneration() == 0 { // a kind without generations
		return a.GetResourceVersion() == b.GetResourceVersion()
	}
	return a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() &&
		maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// prune removes what the function had of a kind and is not wanted any more. A Broker stays,
// because others may use it, and code, because older revisions do.
func (c *Cluster) prune(ctx context.Context, d wish.Deployment, k kind, list []object, report func(Step)) error {
	there, err := c.list(ctx, k, d.Name)
	if actions.CodeOf(err) == actions.Forbidden && !slices.ContainsFunc(list, func(o object) bool { return o.kind == k }) {
		return nil // who may not see them has made none
	}
	if err != nil {
		return err
	}
	for _, u := range there {
		if slices.ContainsFunc(list, func(o object) bool { return o.kind == k && o.GetName() == u.GetName() }) {
			continue
		}
		if err := c.remove(ctx, k, u.GetName()); err != nil {
			return err
		}
		report(Step{Verb: Removed, Kind: k.word, Name: u.GetName(), Why: "it is not asked for any more"})
	}
	return nil
}

// list returns what there is of a kind that deepfn has made for a function, or for all. Of a
// kind that the cluster does not know there is nothing.
func (c *Cluster) list(ctx context.Context, k kind, name string) ([]unstructured.Unstructured, error) {
	found, err := c.of(k).List(ctx, metav1.ListOptions{LabelSelector: selector(name)})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.failure(ctx, "the list of "+k.resource.Resource, err)
	}
	return found.Items, nil
}
