package knative

import (
	"context"
	"fmt"
	"slices"
	"strings"

	eventingconfig "knative.dev/eventing/pkg/apis/config"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingconfig "knative.dev/serving/pkg/apis/config"
	autoscalerconfig "knative.dev/serving/pkg/autoscaler/config"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// settings are those of a Knative which its own checks look at: the data of its ConfigMaps.
// An empty map stands for Knative's defaults.
type settings struct {
	defaults, features, autoscaler  map[string]string // in the namespace of Serving
	eventingFeatures, brokerDefault map[string]string // in that of Eventing
}

// brokerDefaults is what Knative's own manifest says of a Broker that says nothing.
const brokerDefaults = `clusterDefault:
  brokerClass: MTChannelBasedBroker
  apiVersion: v1
  kind: ConfigMap
  name: config-br-default-channel
  namespace: knative-eventing
  delivery: {retry: 10, backoffPolicy: exponential, backoffDelay: PT0.2S}
`

// assumed are the settings of a Knative that nobody asked: the defaults, and what the
// deployment needs is switched on.
func assumed(d wish.Deployment) settings {
	features := map[string]string{}
	for _, name := range needed(d) {
		features[name] = "enabled"
	}
	return settings{features: features}
}

// needed are the features of Serving that the deployment needs and that are off by default.
func needed(d wish.Deployment) []string {
	if d.Node == "" {
		return nil
	}
	return []string{servingconfig.FeaturePodSpecHostPath, servingconfig.FeaturePodSpecSecurityContext}
}

// context returns a context in which Knative's checks find the settings.
func (s settings) context(ctx context.Context) (context.Context, error) {
	defaults, err := servingconfig.NewDefaultsConfigFromMap(s.defaults)
	if err != nil {
		return ctx, settingsError("knative-serving/config-defaults", err)
	}
	features, err := servingconfig.NewFeaturesConfigFromMap(s.features)
	if err != nil {
		return ctx, settingsError("knative-serving/config-features", err)
	}
	autoscaler, err := autoscalerconfig.NewConfigFromMap(s.autoscaler)
	if err != nil {
		return ctx, settingsError("knative-serving/config-autoscaler", err)
	}
	brokerData := s.brokerDefault
	if brokerData[eventingconfig.BrokerDefaultsKey] == "" {
		brokerData = map[string]string{eventingconfig.BrokerDefaultsKey: brokerDefaults}
	}
	brokers, err := eventingconfig.NewDefaultsConfigFromMap(brokerData)
	if err != nil {
		return ctx, settingsError("knative-eventing/config-br-defaults", err)
	}
	flags, err := feature.NewFlagsConfigFromMap(s.eventingFeatures)
	if err != nil {
		return ctx, settingsError("knative-eventing/config-features", err)
	}
	ctx = servingconfig.ToContext(ctx, &servingconfig.Config{Defaults: defaults, Features: features, Autoscaler: autoscaler})
	ctx = eventingconfig.ToContext(ctx, &eventingconfig.Config{Defaults: brokers})
	return apis.WithinCreate(feature.ToContext(ctx, flags)), nil
}

func settingsError(name string, err error) error {
	return actions.Errorf(actions.Unavailable, "the ConfigMap %s of this Knative is not one that deepfn knows: %w", name, err)
}

// check is Knative's own check of an object, after Knative's own defaults. The object is left
// as it is.
func (s settings) check(ctx context.Context, k kind, o typed) error {
	ctx, err := s.context(ctx)
	if err != nil {
		return err
	}
	full, ok := o.DeepCopyObject().(typed)
	if !ok {
		return actions.Errorf(actions.Internal, "a copy of %T is not one", o)
	}
	if full.GetNamespace() == "" { // kubectl finds one; the checks want one
		full.SetNamespace("default")
	}
	full.SetDefaults(ctx)
	return fault(k, full.Validate(ctx).Filter(apis.ErrorLevel))
}

// fault is what Knative has against an object, in the words of the command line.
func fault(k kind, found *apis.FieldError) error {
	if found == nil {
		return nil
	}
	var texts, off []string
	fields := map[string][]string{}
	for _, fe := range found.WrappedErrors() {
		for _, path := range fe.Paths {
			if name := featureOf(path); name != "" {
				off = append(off, name)
				continue
			}
			text := fe.Message
			if fe.Details != "" {
				text += " (" + strings.ReplaceAll(fe.Details, "\n", " ") + ")"
			}
			name := flagOf(k, path)
			fields[name] = append(fields[name], text)
			texts = append(texts, name+": "+text)
		}
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(off) > 0 {
		texts = append(texts, "its settings do not allow a function what this one needs; its administrator can: "+switchOn(off))
	}
	return &actions.Error{
		Code: actions.Invalid, Fields: fields,
		Msg: fmt.Sprintf("Knative does not take this %s: %s", k.word, strings.Join(texts, "; ")),
		Err: found,
	}
}

// flagOf is the flag that a field comes from, else the field.
func flagOf(k kind, path string) string {
	for _, known := range []struct{ part, flag string }{
		{".env[", "--env"},
		{".envFrom[", "--env-secret"},
		{".image", "--image"},
		{"imagePullSecrets", "--pull-secret"},
		{"responseStartTimeoutSeconds", "--response-start"},
		{"idleTimeoutSeconds", "--idle-timeout"},
		{"timeoutSeconds", "--timeout"},
		{"containerConcurrency", "--concurrency"},
		{autoscaling.MinScaleAnnotationKey, "--min-scale"},
		{autoscaling.MaxScaleAnnotationKey, "--max-scale"},
		{"serviceAccountName", "--service-account"},
		{"filter", "--on"},
		{"delivery.retry", "--retry"},
		{"delivery.backoffPolicy", "--backoff"},
		{"delivery.backoffDelay", "--backoff-delay"},
		{"delivery.timeout", "--delivery-timeout"},
		{"delivery.deadLetterSink", "--dead-letter"},
		{"spec.sink", "--sink"},
		{"extensions", "--ce-override"},
	} {
		if strings.Contains(path, known.part) {
			return known.flag
		}
	}
	if _, key, found := strings.Cut(path, autoscaling.GroupName+"/"); found {
		return "--autoscale " + strings.TrimSuffix(key, "]")
	}
	if path == "metadata.name" || path == "name" {
		return "--name"
	}
	return k.word + "." + path
}

// featureOf is the feature of Serving that a field needs; empty for one that is always allowed.
func featureOf(path string) string {
	switch {
	case strings.Contains(path, "hostPath"):
		return servingconfig.FeaturePodSpecHostPath
	case strings.Contains(path, "spec.securityContext"):
		return servingconfig.FeaturePodSpecSecurityContext
	case strings.Contains(path, "emptyDir"):
		return servingconfig.FeaturePodSpecEmptyDir
	}
	return ""
}

// switchOn is the command that switches features of Serving on.
func switchOn(features []string) string {
	features = slices.Compact(slices.Sorted(slices.Values(features)))
	pairs := make([]string, len(features))
	for i, name := range features {
		pairs[i] = fmt.Sprintf("%q: %q", name, "enabled")
	}
	return "kubectl patch -n knative-serving configmap/config-features --type merge -p '{\"data\": {" + strings.Join(pairs, ", ") + "}}'"
}

// scaleKeys are the settings of the autoscaler that a revision may have.
func scaleKeys() []string {
	keys := []string{
		autoscaling.ActivationScaleKey, autoscaling.ClassAnnotationKey, autoscaling.InitialScaleAnnotationKey, autoscaling.MaxScaleAnnotationKey,
		autoscaling.MetricAnnotationKey, autoscaling.MetricAggregationAlgorithmKey, autoscaling.MinScaleAnnotationKey,
		autoscaling.PanicThresholdPercentageAnnotationKey, autoscaling.PanicWindowPercentageAnnotationKey, autoscaling.ScaleDownDelayAnnotationKey,
		autoscaling.ScaleToZeroPodRetentionPeriodKey, autoscaling.TargetAnnotationKey, autoscaling.TargetBurstCapacityKey,
		autoscaling.TargetUtilizationPercentageKey, autoscaling.WindowAnnotationKey,
	}
	for i, key := range keys {
		keys[i] = strings.TrimPrefix(key, autoscaling.GroupName+"/")
	}
	return keys
}

func knownScale(key string) bool { return slices.Contains(scaleKeys(), key) }
