package wish

import "time"

// A Request is what deepfn-knative is asked on its standard input.
type Request struct {
	// Release is that of the deepfn that asks.
	Release string `json:"release"`
	// Cluster says which Knative is meant.
	Cluster Cluster `json:"cluster"`
	// Deployment is what to deploy, for the verb deploy.
	Deployment *Deployment `json:"deployment,omitempty"`
	// Services are the names of the functions that are meant, for the verbs status and
	// undeploy. Empty means all that deepfn has deployed in the namespace.
	Services []string `json:"services,omitempty"`
	// DryRun prints the objects as YAML and asks no cluster.
	DryRun bool `json:"dry_run,omitempty"`
	// Force takes fields that others have set, and objects that deepfn did not make.
	Force bool `json:"force,omitempty"`
	// Wait is how long to wait until all is ready. Zero means not to wait.
	Wait time.Duration `json:"wait,omitempty"`
	// JSON prints the status as JSON.
	JSON bool `json:"json,omitempty"`
}

// A Cluster says which Kubernetes is meant, in the words of kubectl.
type Cluster struct {
	// Kubeconfig is the path of a file. Empty means $KUBECONFIG, else ~/.kube/config, else
	// the cluster that the program runs in.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Context is one of the file; empty is its current one.
	Context string `json:"context,omitempty"`
	// Namespace is where the objects are; empty is that of the context.
	Namespace string `json:"namespace,omitempty"`
}

// A Deployment is a function and what gives it its events. What it does not say of a
// function that is there already goes back to the default.
type Deployment struct {
	// Release is the version of deepfn that deploys.
	Release string `json:"release"`
	Function
	// Broker has the events of the Triggers.
	Broker Broker `json:"broker,omitzero"`
	// Triggers are which events of the Broker the function gets.
	Triggers []Trigger `json:"triggers,omitempty"`
	// Delivery is how the Broker gives them to it.
	Delivery Delivery `json:"delivery,omitzero"`
	// Sink is where the function's own events go: broker:NAME, ksvc:NAME (a Service of
	// Knative), service:NAME (of Kubernetes), each also as NAMESPACE/NAME, or a URL. Empty
	// means nowhere.
	Sink string `json:"sink,omitempty"`
	// Overrides are extensions that each event to the Sink gets.
	Overrides map[string]string `json:"overrides,omitempty"`
}

// A Function is a model as a Service of Knative.
type Function struct {
	// Name is that of the Service: ServiceName of the model, or what the user says.
	Name string `json:"name"`
	// Model is the model's own name, ModelVersion its version.
	Model        string `json:"model"`
	ModelVersion string `json:"model_version,omitempty"`
	// Image is that of deepfn, or of a relay when there is a Node.
	Image string `json:"image"`
	// PullSecrets are the names of Secrets that the registry wants.
	PullSecrets []string `json:"pull_secrets,omitempty"`
	// Code is the model's own code when the image does not hold it.
	Code *Code `json:"code,omitempty"`
	// Env are variables of the environment; Secrets are names of Secrets whose keys are.
	Env     map[string]string `json:"env,omitempty"`
	Secrets []string          `json:"secrets,omitempty"`
	// Instances is how many calls of the model run at the same time in one replica; zero
	// is one.
	Instances int `json:"instances,omitempty"`
	// Concurrency is how many requests a replica gets at the same time; zero means any
	// number. Nil is as many as there are Instances, or any number when there is a Node.
	Concurrency *int `json:"concurrency,omitempty"`
	// Timeout is the most time of one request with its time in the queue; zero is 5
	// minutes. ResponseStart is the most until its first byte, IdleTimeout between two;
	// zeros are Timeout, and any time.
	Timeout       time.Duration `json:"timeout,omitempty"`
	ResponseStart time.Duration `json:"response_start,omitempty"`
	IdleTimeout   time.Duration `json:"idle_timeout,omitempty"`
	// LoadTime is the most time for loading the model, after which its container is
	// started again. Zero means that the container may take all the time that Knative
	// gives a revision, which is 10 minutes.
	LoadTime time.Duration `json:"load_time,omitempty"`
	Resources
	// Scale are the bounds of the number of replicas, and how Knative finds it: the
	// annotations of autoscaling.knative.dev without that.
	Scale map[string]string `json:"scale,omitempty"`
	// Node is a node runtime, "unix:///run/deepfn/node.sock", that the models are in.
	Node string `json:"node,omitempty"`
	// ClusterLocal means that the function has no address outside of the cluster.
	ClusterLocal bool `json:"cluster_local,omitempty"`
	// ReadOnly means that a container can write nothing but what it mounts.
	ReadOnly bool `json:"read_only,omitempty"`
	// ServiceAccount is the one that its pods run as; empty is the namespace's default.
	ServiceAccount string `json:"service_account,omitempty"`
	// Labels and Annotations are for the Service and its pods, beside ours.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Resources are what a replica needs, as quantities of Kubernetes. Empty texts leave it to
// the cluster.
type Resources struct {
	// CPU and MemoryRequest are what it gets at least, Memory what it gets at most, too.
	CPU           string `json:"cpu,omitempty"`
	Memory        string `json:"memory,omitempty"`
	MemoryRequest string `json:"memory_request,omitempty"`
	// GPUs is how many it gets, GPUResource what Kubernetes calls one; empty is
	// nvidia.com/gpu.
	GPUs        int    `json:"gpus,omitempty"`
	GPUResource string `json:"gpu_resource,omitempty"`
}

// Code is a file that is a model: a Python file, an archive, a program.
type Code struct {
	// File is its name, without a folder.
	File string `json:"file"`
	Data []byte `json:"data"`
}

// MaxCode is how much code there may be: a ConfigMap of Kubernetes has 1 MiB, its names and
// labels included.
const MaxCode = 1<<20 - 16<<10

// A Broker is where the events come from.
type Broker struct {
	// Name is that of the Broker; empty is "default".
	Name string `json:"name,omitempty"`
	// Create makes it if it is not there.
	Create bool `json:"create,omitempty"`
	// Class is the class of one that is made; empty leaves it to the cluster.
	Class string `json:"class,omitempty"`
}

// A Trigger says which events a function gets. Without Attributes and SQL they are all.
type Trigger struct {
	// Attributes are attributes and extensions of events, and their values.
	Attributes map[string]string `json:"attributes,omitempty"`
	// SQL is an expression of CESQL that has to be true.
	SQL string `json:"sql,omitempty"`
}

// A Delivery says how events are given to a function, and what happens to those that it does
// not take. Zeros leave it to the Broker.
type Delivery struct {
	// Retry is how often an event is sent again; nil leaves it to the Broker.
	Retry *int `json:"retry,omitempty"`
	// Backoff is linear or exponential, Delay the time that it begins with.
	Backoff string        `json:"backoff,omitempty"`
	Delay   time.Duration `json:"delay,omitempty"`
	// Timeout is the most time of one attempt.
	Timeout time.Duration `json:"timeout,omitempty"`
	// DeadLetter is where the rest goes, in the words of Deployment.Sink.
	DeadLetter string `json:"dead_letter,omitempty"`
}
