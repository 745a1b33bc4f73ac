package knative

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

const (
	// container is the name that Knative gives to the container of a function, in which
	// kubectl logs is asked for it.
	container = "user-container"
	// port is where the image listens. It stands in the startup probe, too: Knative fills in
	// the port of the other probes only, and Kubernetes refuses the Deployment then.
	port = 8080
	// codeDir is where the code of a model is in its container.
	codeDir = "/etc/deepfn/code"
	// visibility is the label of a Service that only the cluster reaches.
	visibility = "networking.knative.dev/visibility"
	// defaultTimeout is the time of a request when nothing is said.
	defaultTimeout = 5 * time.Minute
)

// service returns the Service of a function.
func service(d wish.Deployment, namespace string) (*servingv1.Service, error) {
	if err := reserved(d); err != nil {
		return nil, err
	}
	s := &servingv1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: servingv1.SchemeGroupVersion.String(), Kind: "Service"},
		ObjectMeta: meta(d, namespace, d.Name, "function"),
	}
	s.Labels = merged(d.Labels, s.Labels)
	s.Annotations = merged(d.Annotations, s.Annotations)
	if d.ClusterLocal {
		s.Labels[visibility] = serving.VisibilityClusterLocal
	}
	template, err := revision(d)
	if err != nil {
		return nil, err
	}
	s.Spec.Template = template
	return s, nil
}

// revision returns the template of the revisions of a function. Nothing that changes with each
// release of deepfn is in it, because a changed template is a new revision, which loads the model anew.
func revision(d wish.Deployment) (servingv1.RevisionTemplateSpec, error) {
	var t servingv1.RevisionTemplateSpec
	t.Labels = merged(d.Labels, map[string]string{labelInstance: d.Name, labelName: wish.ServiceName(d.Model)})
	t.Annotations = merged(d.Annotations, nil)
	for key, value := range d.Scale {
		t.Annotations[autoscaling.GroupName+"/"+key] = value
	}
	if d.LoadTime > 0 {
		t.Annotations[serving.ProgressDeadlineAnnotationKey] = wholeSeconds(d.LoadTime).String()
	}
	if len(t.Annotations) == 0 {
		t.Annotations = nil
	}
	if err := times(&t.Spec, d.Function); err != nil {
		return t, err
	}
	t.Spec.ContainerConcurrency = new(concurrency(d.Function))
	t.Spec.ServiceAccountName = d.ServiceAccount
	for _, name := range d.PullSecrets {
		t.Spec.ImagePullSecrets = append(t.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	c, err := userContainer(d)
	if err != nil {
		return t, err
	}
	t.Spec.Volumes, c.VolumeMounts = volumes(d)
	if d.Node != "" {
		t.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(imageUser))}
		c.SecurityContext.RunAsUser = new(int64(imageUser))
	}
	t.Spec.Containers = []corev1.Container{c}
	return t, nil
}

// times sets the times of requests. The first byte of an answer may come as late as the last,
// because a model answers when it is done.
func times(spec *servingv1.RevisionSpec, f wish.Function) error {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	start := f.ResponseStart
	if start == 0 {
		start = timeout
	}
	switch {
	case timeout < time.Second || start < time.Second || f.IdleTimeout < 0 || f.LoadTime < 0:
		return actions.Errorf(actions.Invalid, "--timeout and --response-start want 1s or more, --idle-timeout and --load-time 0 or more")
	case start > timeout || f.IdleTimeout > timeout:
		return actions.Errorf(actions.Invalid, "--response-start and --idle-timeout may not be more than --timeout %s", timeout)
	}
	spec.TimeoutSeconds = new(seconds(timeout))
	spec.ResponseStartTimeoutSeconds = new(seconds(start))
	if f.IdleTimeout > 0 {
		spec.IdleTimeoutSeconds = new(seconds(f.IdleTimeout))
	}
	return nil
}

// wholeSeconds rounds up, and seconds says how many those are.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

func seconds(d time.Duration) int64 { return int64(wholeSeconds(d) / time.Second) }

// concurrency is how many requests a replica gets at the same time: as many as the model runs,
// so that Knative starts further replicas instead of letting requests wait in this one. A relay
// takes as many as its node lets it.
func concurrency(f wish.Function) int64 {
	switch {
	case f.Concurrency != nil:
		return int64(*f.Concurrency)
	case f.Node != "":
		return 0
	}
	return int64(max(f.Instances, 1))
}

// userContainer is the container of a function, without its mounts.
func userContainer(d wish.Deployment) (corev1.Container, error) {
	c := corev1.Container{
		Name: container, Image: d.Image, Env: environment(d.Function),
		Ports: []corev1.ContainerPort{{ContainerPort: port}},
		// What a container that does not start said last is in the revision's status.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if readOnly(d.Function) {
		c.SecurityContext.ReadOnlyRootFilesystem = new(true)
	}
	for _, name := range d.Secrets {
		c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
	}
	if err := probes(&c, d.LoadTime); err != nil {
		return c, err
	}
	var err error
	c.Resources, err = resources(d.Resources)
	return c, err
}

// probes sets the probes. Readiness has a period, because without one the kubelet asks queue-proxy
// every 10 seconds and gives it one: a model that takes longer than that second is then not ready
// before the eleventh. The process is alive while it loads, so that loading needs no startup probe
// unless it is bounded.
func probes(c *corev1.Container, loadTime time.Duration) error {
	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}}
	}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: get("/readyz"), PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 3}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: get("/healthz"), PeriodSeconds: 10, TimeoutSeconds: 5, FailureThreshold: 3}
	if loadTime == 0 {
		return nil
	}
	n := seconds(loadTime)
	if n > math.MaxInt32 {
		return actions.Errorf(actions.Invalid, "--load-time %s is too long", loadTime)
	}
	c.StartupProbe = &corev1.Probe{ProbeHandler: get("/readyz"), PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: int32(n)}
	return nil
}

// environment is the environment of the container; what the user says of a variable wins.
func environment(f wish.Function) []corev1.EnvVar {
	env := map[string]string{"DEEPFN_MODEL": modelOf(f)}
	if f.Instances > 1 && f.Node == "" {
		env["DEEPFN_INSTANCES"] = strconv.Itoa(f.Instances)
		env["DEEPFN_WARM"] = env["DEEPFN_INSTANCES"]
	}
	if f.Timeout > 0 && f.Node == "" {
		env["DEEPFN_TIMEOUT"] = wholeSeconds(f.Timeout).String()
	}
	if f.Node != "" {
		env["DEEPFN_NODE"], env["DEEPFN_NODE_TOKEN_FILE"] = f.Node, tokenDir+"/token"
	}
	env = merged(env, f.Env)
	vars := make([]corev1.EnvVar, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		vars = append(vars, corev1.EnvVar{Name: name, Value: env[name]})
	}
	return vars
}

// modelOf is the model as the program in the container is told of it.
func modelOf(f wish.Function) string {
	if f.Code != nil {
		return codeDir + "/" + f.Code.File
	}
	return f.Model
}
