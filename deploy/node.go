package deploy

import (
	"bytes"
	"path"
	"strconv"
	"text/template"

	"github.com/deepfn/deepfn/actions"
)

// The platforms that a node runtime has a manifest for.
const (
	Kubernetes = "kubernetes"
	Knative    = "knative"
	OpenWhisk  = "openwhisk"
)

// NodePlatforms are those platforms.
func NodePlatforms() []string { return []string{Kubernetes, Knative, OpenWhisk} }

// imageUser is the user of both images.
const imageUser = 10001

// tokenPath is where the token is in a container.
const tokenPath = "/etc/deepfn/token" // #nosec G101 -- a path

// A NodeDeployment is a node runtime on each node of a platform, and its relays.
type NodeDeployment struct {
	// Release is the version of deepfn that writes the manifest.
	Release string
	// Image is that of the node runtime, RelayImage that of the relays.
	Image, RelayImage string
	// Namespace is the namespace of Kubernetes.
	Namespace string
	// Socket is the path of the socket on each node and in each container.
	Socket string
	// GPUs is how many GPUs of a node the node runtime has; zero for none.
	GPUs int
	// Models are kept warm, and have a relay each.
	Models []string
}

// SocketDir is the folder of the socket, which containers share.
func (d NodeDeployment) SocketDir() string { return path.Dir(d.Socket) }

// URL is how a relay is told of the socket.
func (d NodeDeployment) URL() string { return "unix://" + d.Socket }

// UID is the user of both images.
func (d NodeDeployment) UID() int { return imageUser }

// Args are the arguments of the node runtime in Kubernetes.
func (d NodeDeployment) Args() []string {
	return append([]string{"--socket", d.Socket, "--token-file", tokenPath}, d.Models...)
}

// Probe asks the node runtime in its own container whether it takes calls.
func (d NodeDeployment) Probe() []string {
	return []string{"deepfn", "healthcheck", "--node", d.URL(), "--token-file", tokenPath}
}

// Manifest returns what a platform has to be told. The error is Invalid for a platform that
// there is not, and for what cannot be.
func (d NodeDeployment) Manifest(platform string) ([]byte, error) {
	name := ""
	switch platform {
	case Kubernetes:
		name = "node-kubernetes.yaml.tmpl"
	case Knative:
		name = "node-knative.yaml.tmpl"
	case OpenWhisk:
		name = "node-openwhisk.env.tmpl"
	default:
		return nil, actions.Errorf(actions.Invalid, "there is no manifest of a node runtime for %s; there are %q", strconv.Quote(platform), NodePlatforms())
	}
	switch {
	case !path.IsAbs(d.Socket) || d.SocketDir() == "/":
		return nil, actions.Errorf(actions.Invalid, "the socket %s: want an absolute path in a folder of its own", d.Socket)
	case platform == Knative && len(d.Models) == 0:
		return nil, actions.Errorf(actions.Invalid, "name the models: each is a Service of Knative")
	case d.GPUs < 0:
		return nil, actions.Errorf(actions.Invalid, "%d GPUs: want 0 or more", d.GPUs)
	}
	text := template.Must(template.New(name).Funcs(template.FuncMap{"json": scalar}).ParseFS(manifests, "manifests/"+name))
	var buf bytes.Buffer
	if err := text.Execute(&buf, d); err != nil {
		return nil, actions.Errorf(actions.Internal, "manifest: %w", err)
	}
	return buf.Bytes(), nil
}
