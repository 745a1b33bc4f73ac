package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// codeCache is where a Python function keeps what its program unpacks, in a container whose own
// files are read-only.
const codeCache = "/tmp/deepfn"

// A knativeRollout is one run of deploy knative.
type knativeRollout struct {
	*settings
	clusterFlags
	flags *pflag.FlagSet

	d                               wish.Deployment
	concurrency, minScale, maxScale int
	retry                           int
	env, autoscale, labels, notes   []string
	on, onSQL, overrides            []string
	dryRun, force                   bool
	wait                            time.Duration
}

func deployKnativeCommand(s *settings) *cobra.Command {
	r := &knativeRollout{settings: s}
	cmd := &cobra.Command{
		Use:   "knative MODEL",
		Short: "Puts a model on Knative as a Service, with the events that it gets and sends",
		Long: "Puts a model on Knative as a Service, or changes it there, and waits until it is ready. MODEL is a\n" +
			"name from 'deepfn models list', which the image has to hold, or the path of a file or a folder, which\n" +
			"is sent as a ConfigMap: a Python file with a function, a .zip, the folder of an action, 1 MiB at most.\n" +
			"The command line says all that there is to be: what it does not say goes back to its default, and\n" +
			"Triggers and SinkBindings of an earlier one that it does not name are removed.\n\n" +
			"SINK is broker:NAME, ksvc:NAME for a Service of Knative, service:NAME for one of Kubernetes, each also\n" +
			"as NAMESPACE/NAME, or a URL.\n\n" + exitHelp,
		Example: "  deepfn deploy knative ocr-line --image registry.example.org/me/deepfn:0.1.0\n" +
			"  deepfn deploy knative ./dates.py --on type=text.read,source=/scanner --create-broker --retry 5 --dead-letter ksvc:failed\n" +
			"  deepfn deploy knative ocr-line --sink broker:default --min-scale 1 --dry-run",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.flags = cmd.Flags()
			req, err := r.request(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return askKnative(cmd, "deploy", req)
		},
	}
	f := cmd.Flags()
	r.clusterFlags.addFlags(f)
	r.addFunctionFlags(f)
	r.addPodFlags(f)
	r.addEventFlags(f)
	f.BoolVar(&r.dryRun, "dry-run", false, "print the objects as YAML, and ask no cluster")
	f.BoolVar(&r.force, "force", false, "take over fields that others have set, and a Service that deepfn did not make")
	f.DurationVar(&r.wait, "wait", 10*time.Minute, "wait so long until all is ready; 0: do not wait")
	return cmd
}

func (r *knativeRollout) addFunctionFlags(f *pflag.FlagSet) {
	d := &r.d
	f.StringVar(&d.Image, "image", "", "image of the function (DEEPFN_IMAGE; default "+defaultImage+", with --node "+defaultRelayImage+")")
	f.StringVar(&d.Name, "name", "", "name of the Service (default: that of the model)")
	f.IntVar(&d.Instances, "instances", 0, "calls of the model at a time in one replica (default: what the action says, else 1)")
	f.IntVar(&r.concurrency, "concurrency", 0, "requests at a time for one replica; 0: any number (default: --instances, with --node 0)")
	f.DurationVar(&d.Timeout, "timeout", 0, "most time for a request, with its time in the queue (default 5m; Knative allows 10m)")
	f.DurationVar(&d.ResponseStart, "response-start", 0, "most time until its first byte (default: --timeout)")
	f.DurationVar(&d.IdleTimeout, "idle-timeout", 0, "most time between two bytes of an answer (default: any)")
	f.DurationVar(&d.LoadTime, "load-time", 0, "most time for loading the model, after which its container is started again (default: Knative's 10m\nfor all of a revision, and no new start)")
	f.IntVar(&r.minScale, "min-scale", 0, "replicas at least (default 0: none while there are no requests)")
	f.IntVar(&r.maxScale, "max-scale", 0, "replicas at most; 0: any number (default: the cluster's)")
	f.StringArrayVar(&r.autoscale, "autoscale", nil, "another setting KEY=VALUE of autoscaling.knative.dev, such as window=30s or target-burst-capacity=-1")
	f.BoolVar(&d.ClusterLocal, "cluster-local", false, "give it no address outside of the cluster")
	f.StringVar(&d.Node, "node", "", "URL of the socket of a node runtime that has the models, such as unix:///run/deepfn/node.sock")
}

func (r *knativeRollout) addPodFlags(f *pflag.FlagSet) {
	d := &r.d
	f.StringVar(&d.CPU, "cpu", "", "CPUs that a replica gets at least, such as 500m")
	f.StringVar(&d.Memory, "memory", "", "memory that a replica gets, and no more, such as 2Gi (default: no limit, and at least what the model\nis thought to need)")
	f.IntVar(&d.GPUs, "gpu", 0, "GPUs that a replica gets (default: what the action says)")
	f.StringVar(&d.GPUResource, "gpu-resource", "", "what Kubernetes calls such a GPU (default nvidia.com/gpu)")
	f.StringArrayVarP(&r.env, "env", "e", nil, "variable KEY=VALUE of the environment")
	f.StringArrayVar(&d.Secrets, "env-secret", nil, "Secret whose keys are variables of the environment")
	f.StringArrayVar(&d.PullSecrets, "pull-secret", nil, "Secret for the registry of the image")
	f.StringVar(&d.ServiceAccount, "service-account", "", "service account of the pods (default: the namespace's)")
	f.StringArrayVar(&r.labels, "label", nil, "label KEY=VALUE of the Service and its pods")
	f.StringArrayVarP(&r.notes, "annotation", "a", nil, "annotation KEY=VALUE, likewise")
	f.BoolVar(&d.ReadOnly, "read-only", false, "let the container write to /tmp and its data folder only: for ONNX models that the image holds\n(default for a Python file, and with --node)")
}

func (r *knativeRollout) addEventFlags(f *pflag.FlagSet) {
	d := &r.d
	f.StringArrayVar(&r.on, "on", nil, "events that it gets: ATTRIBUTE=VALUE,… such as type=line.seen, or all; several times for several Triggers")
	f.StringArrayVar(&r.onSQL, "on-sql", nil, "likewise, by an expression of CESQL")
	f.StringVar(&d.Broker.Name, "broker", "", "broker of these events (default \"default\")")
	f.BoolVar(&d.Broker.Create, "create-broker", false, "make that broker if it is not there")
	f.StringVar(&d.Broker.Class, "broker-class", "", "class of a broker that is made (default: the cluster's)")
	f.IntVar(&r.retry, "retry", 0, "how often an event that it does not take is sent again (default: the broker's)")
	f.StringVar(&d.Delivery.Backoff, "backoff", "", "linear or exponential")
	f.DurationVar(&d.Delivery.Delay, "backoff-delay", 0, "time that the backoff begins with")
	f.DurationVar(&d.Delivery.Timeout, "delivery-timeout", 0, "most time for one attempt")
	f.StringVar(&d.Delivery.DeadLetter, "dead-letter", "", "SINK of the events that it does not take at all")
	f.StringVar(&d.Sink, "sink", "", "SINK of its own events, which are no replies")
	f.StringArrayVar(&r.overrides, "ce-override", nil, "extension NAME=VALUE that each event to --sink gets")
}

// request is what the program that knows Kubernetes is asked.
func (r *knativeRollout) request(ctx context.Context, model string) (wish.Request, error) {
	req := wish.Request{Cluster: r.Cluster, DryRun: r.dryRun, Force: r.force, Wait: r.wait}
	if r.wait < 0 {
		return req, usageError{errors.New("--wait wants 0 or more")}
	}
	if err := r.pairs(); err != nil {
		return req, err
	}
	h, err := r.open()
	if err != nil {
		return req, err
	}
	defer h.close()
	if err := r.describe(ctx, h, model); err != nil {
		return req, err
	}
	req.Deployment = &r.d
	return req, nil
}

// pairs reads the flags that are KEY=VALUE, and those whose zero is a value.
func (r *knativeRollout) pairs() error {
	var err error
	for _, list := range []struct {
		flag  string
		texts []string
		into  *map[string]string
	}{
		{"--env", r.env, &r.d.Env},
		{"--autoscale", r.autoscale, &r.d.Scale},
		{"--label", r.labels, &r.d.Labels},
		{"--annotation", r.notes, &r.d.Annotations},
		{"--ce-override", r.overrides, &r.d.Overrides},
	} {
		if *list.into, err = textPairs(list.flag, list.texts); err != nil {
			return err
		}
	}
	for _, n := range []struct {
		key   string
		value int
	}{{"min-scale", r.minScale}, {"max-scale", r.maxScale}} {
		if !r.flags.Changed(n.key) {
			continue
		}
		if r.d.Scale == nil {
			r.d.Scale = map[string]string{}
		}
		r.d.Scale[n.key] = strconv.Itoa(n.value)
	}
	if r.flags.Changed("concurrency") {
		r.d.Concurrency = &r.concurrency
	}
	if r.flags.Changed("retry") {
		r.d.Delivery.Retry = &r.retry
	}
	return r.triggers()
}

// triggers reads which events the function gets.
func (r *knativeRollout) triggers() error {
	for _, text := range r.on {
		t := wish.Trigger{}
		if text != "all" {
			var err error
			if t.Attributes, err = textPairs("--on", strings.Split(text, ",")); err != nil {
				return err
			}
		}
		r.d.Triggers = append(r.d.Triggers, t)
	}
	for _, text := range r.onSQL {
		r.d.Triggers = append(r.d.Triggers, wish.Trigger{SQL: text})
	}
	return nil
}

// textPairs reads KEY=VALUE, whose values are texts. Nothing gives nil.
func textPairs(flag string, pairs []string) (map[string]string, error) {
	var out map[string]string
	for _, text := range pairs {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usageError{fmt.Errorf("%s %q: want KEY=VALUE", flag, text)}
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}

// describe fills in what the model says of itself where no flag does.
func (r *knativeRollout) describe(ctx context.Context, h *house, nameOrPath string) error {
	m, err := h.catalog.Open(ctx, nameOrPath)
	if err != nil {
		return err
	}
	settled, err := h.settle(ctx, m)
	if err != nil {
		return err
	}
	d := &r.d
	d.Release, d.Model, d.ModelVersion = release, m.Name, m.Version
	d.Name = first(d.Name, wish.ServiceName(m.Name))
	r.chooseImage()
	if isFile(nameOrPath) {
		if err := r.sendCode(nameOrPath, m); err != nil {
			return err
		}
	}
	if d.Instances == 0 {
		d.Instances = max(m.Scale.Min, 1)
	}
	if d.Node != "" {
		return nil // what the model needs, the node runtime has
	}
	if d.GPUs > 0 && m.Resources.NoGPU {
		return usageError{fmt.Errorf("--gpu %d: the model %s uses none", d.GPUs, m.Name)}
	}
	if !r.flags.Changed("gpu") && !m.Resources.NoGPU {
		d.GPUs = m.Resources.GPUs
	}
	if d.Memory == "" {
		mib, err := h.memoryOf(ctx, settled)
		if err != nil {
			return err
		}
		d.MemoryRequest = strconv.Itoa(mib*d.Instances) + "Mi"
	}
	return nil
}

// chooseImage finds the image when no flag names one.
func (r *knativeRollout) chooseImage() {
	if r.d.Image != "" {
		return
	}
	r.d.Image = first(r.getenv("DEEPFN_IMAGE"), defaultImage)
	if r.d.Node != "" {
		r.d.Image = defaultRelayImage
	} else if r.getenv("DEEPFN_IMAGE") == "" {
		_, _ = fmt.Fprintf(r.stderr, "deepfn: warning: the image is %s, which the cluster has to have; name one in a registry with --image\n", defaultImage)
	}
}

// sendCode reads the code that goes with the function. A Python function's program unpacks
// itself into the cache, which therefore moves to where its container can write.
func (r *knativeRollout) sendCode(path string, m actions.Model) error {
	data, err := readCode(path)
	if actions.CodeOf(err) == actions.TooLarge || len(data) > wish.MaxCode {
		return actions.Errorf(actions.TooLarge, "%s is more than the %d KiB of code that a ConfigMap of Kubernetes takes: put the model into the image and "+
			"deploy it by its name, or have its weights fetched (files: {url, sha256} in its action.yaml)", path, wish.MaxCode>>10)
	}
	if err != nil {
		return err
	}
	ext := filepath.Ext(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() || filepath.Base(path) == "action.yaml" {
		ext = ".zip"
	}
	r.d.Code = &wish.Code{File: m.Name + ext, Data: data}
	if m.Runtime != actions.Python || r.flags.Changed("read-only") && !r.d.ReadOnly {
		return nil
	}
	r.d.ReadOnly = true
	if r.d.Env["DEEPFN_CACHE"] == "" {
		if r.d.Env == nil {
			r.d.Env = map[string]string{}
		}
		r.d.Env["DEEPFN_CACHE"] = codeCache
	}
	return nil
}
