package knative

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	pkgduckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/tracker"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// defaultBroker is the name of a Broker when none is said, as Knative has it.
const defaultBroker = "default"

func brokerName(d wish.Deployment) string {
	if d.Broker.Name != "" {
		return d.Broker.Name
	}
	return defaultBroker
}

// broker returns the Broker of the events.
func broker(d wish.Deployment, namespace string) *eventingv1.Broker {
	b := &eventingv1.Broker{
		TypeMeta:   metav1.TypeMeta{APIVersion: eventingv1.SchemeGroupVersion.String(), Kind: "Broker"},
		ObjectMeta: meta(d, namespace, brokerName(d), "broker"),
	}
	if d.Broker.Class != "" {
		b.Annotations[eventingv1.BrokerClassAnnotationKey] = d.Broker.Class
	}
	return b
}

// trigger returns the Trigger of one filter. Its name is that of the filter, so that
// the same filter is the same Trigger.
func trigger(d wish.Deployment, namespace string, t wish.Trigger) (*eventingv1.Trigger, error) {
	filter, err := json.Marshal(t)
	if err != nil {
		return nil, actions.Errorf(actions.Internal, "trigger: %w", err)
	}
	name := child(d, "on-"+digest([]byte(brokerName(d)), filter))
	out := &eventingv1.Trigger{
		TypeMeta:   metav1.TypeMeta{APIVersion: eventingv1.SchemeGroupVersion.String(), Kind: "Trigger"},
		ObjectMeta: meta(d, namespace, name, "trigger"),
	}
	out.Spec.Broker = brokerName(d)
	if out.Spec.Filter, out.Spec.Filters, err = filters(t); err != nil {
		return nil, err
	}
	out.Spec.Subscriber = pkgduckv1.Destination{Ref: &pkgduckv1.KReference{
		APIVersion: servingv1.SchemeGroupVersion.String(), Kind: "Service", Name: d.Name,
	}}
	out.Spec.Delivery, err = delivery(d.Delivery)
	return out, err
}

// ownTypes begin the types of the events that deepfn answers with.
const ownTypes = "dev.deepfn."

// filters are the filters of a Trigger, in the old form where that says all: a Trigger with both
// would look at one of them only. A function's answer goes to the same Broker, with the extensions of the
// event, so a Trigger that names no type gets no answers of deepfn's: they would go round for ever.
func filters(t wish.Trigger) (*eventingv1.TriggerFilter, []eventingv1.SubscriptionsAPIFilter, error) {
	for name, value := range t.Attributes {
		if value == "" {
			return nil, nil, actions.Errorf(actions.Invalid, "--on %s=: say which; no event has an attribute that is empty", name)
		}
	}
	kind := t.Attributes["type"]
	if (kind == cloudevent.Prediction || kind == cloudevent.Failure) && t.Attributes["source"] == "" && t.SQL == "" {
		return nil, nil, actions.Errorf(actions.Invalid, "--on type=%s: the function would get its own answers, too; say whose with source=…", kind)
	}
	if t.SQL == "" && kind != "" {
		return &eventingv1.TriggerFilter{Attributes: t.Attributes}, nil, nil
	}
	var list []eventingv1.SubscriptionsAPIFilter
	if len(t.Attributes) > 0 {
		list = append(list, eventingv1.SubscriptionsAPIFilter{Exact: t.Attributes})
	}
	if t.SQL != "" {
		return nil, append(list, eventingv1.SubscriptionsAPIFilter{CESQL: t.SQL}), nil
	}
	own := eventingv1.SubscriptionsAPIFilter{Prefix: map[string]string{"type": ownTypes}}
	return nil, append(list, eventingv1.SubscriptionsAPIFilter{Not: &own}), nil
}

// delivery says how a Trigger delivers; nil leaves it to its Broker.
func delivery(d wish.Delivery) (*duckv1.DeliverySpec, error) {
	if d == (wish.Delivery{}) {
		return nil, nil //nolint:nilnil // nothing is said
	}
	out := &duckv1.DeliverySpec{}
	if d.Retry != nil {
		out.Retry = new(int32(*d.Retry))
	}
	if d.Backoff != "" {
		out.BackoffPolicy = new(duckv1.BackoffPolicyType(d.Backoff))
	}
	if d.Delay < 0 || d.Timeout < 0 {
		return nil, actions.Errorf(actions.Invalid, "--backoff-delay and --delivery-timeout want 0 or more")
	}
	if d.Delay > 0 {
		out.BackoffDelay = new(period(d.Delay))
	}
	if d.Timeout > 0 {
		out.Timeout = new(period(d.Timeout))
	}
	if d.DeadLetter != "" {
		sink, err := destination("--dead-letter", d.DeadLetter)
		if err != nil {
			return nil, err
		}
		out.DeadLetterSink = &sink
	}
	return out, nil
}

// period writes a time as ISO 8601 has it: 1m30.5s is PT90.5S.
func period(d time.Duration) string {
	return "PT" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S"
}

// destination reads where events go: broker:, ksvc: or service: and a name, or a URL.
func destination(flag, text string) (pkgduckv1.Destination, error) {
	var out pkgduckv1.Destination
	kind, name, ok := strings.Cut(text, ":")
	ref := map[string]*pkgduckv1.KReference{
		"broker":  {APIVersion: eventingv1.SchemeGroupVersion.String(), Kind: "Broker"},
		"ksvc":    {APIVersion: servingv1.SchemeGroupVersion.String(), Kind: "Service"},
		"service": {APIVersion: "v1", Kind: "Service"},
	}[kind]
	if ok && ref != nil {
		namespace, rest, both := strings.Cut(name, "/")
		if !both {
			namespace, rest = "", name
		}
		if rest == "" {
			return out, actions.Errorf(actions.Invalid, "%s %s: want %s:NAME", flag, text, kind)
		}
		ref.Namespace, ref.Name = namespace, rest
		out.Ref = ref
		return out, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return out, actions.Errorf(actions.Invalid, "%s %s: want broker:NAME, ksvc:NAME, service:NAME, or a URL with http or https", flag, text)
	}
	out.URI = (*apis.URL)(u)
	return out, nil
}

// binding returns the SinkBinding that tells the function where its own events go.
func binding(d wish.Deployment, namespace string) (*sourcesv1.SinkBinding, error) {
	sink, err := destination("--sink", d.Sink)
	if err != nil {
		return nil, err
	}
	b := &sourcesv1.SinkBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: sourcesv1.SchemeGroupVersion.String(), Kind: "SinkBinding"},
		ObjectMeta: meta(d, namespace, child(d, "sink"), "sink"),
	}
	b.Spec.Sink = sink
	b.Spec.Subject = tracker.Reference{APIVersion: servingv1.SchemeGroupVersion.String(), Kind: "Service", Name: d.Name}
	if len(d.Overrides) > 0 {
		if _, err := cloudevent.Overrides(d.Overrides); err != nil {
			return nil, actions.Errorf(actions.Invalid, "--ce-override: %w", err)
		}
		b.Spec.CloudEventOverrides = &pkgduckv1.CloudEventOverrides{Extensions: d.Overrides}
	}
	return b, nil
}
