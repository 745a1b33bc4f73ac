package knative

import (
	"net/url"
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

const (
	// imageUser is the user of deepfn's images, who may read the token of a node runtime.
	imageUser = 10001
	// tokenDir is where that token is in a container, tokenSecret the Secret that has it.
	tokenDir    = "/etc/deepfn/node" // #nosec G101 -- a path
	tokenSecret = "deepfn-node"      // #nosec G101 -- a name
	// dataDir is where the image keeps what must be kept.
	dataDir = "/var/lib/deepfn"
	// gpu is what Kubernetes calls a whole GPU of NVIDIA's.
	gpu = "nvidia.com/gpu"
)

// readOnly says whether the container's own files cannot be written. A relay writes none.
func readOnly(f wish.Function) bool { return f.ReadOnly || f.Node != "" }

// volumes are the folders of a container, and where it has them.
func volumes(d wish.Deployment) (vs []corev1.Volume, mounts []corev1.VolumeMount) {
	add := func(name, at string, read bool, source corev1.VolumeSource) {
		vs = append(vs, corev1.Volume{Name: name, VolumeSource: source})
		mounts = append(mounts, corev1.VolumeMount{Name: name, MountPath: at, ReadOnly: read})
	}
	if d.Code != nil {
		source := &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: codeName(d)}}
		source.DefaultMode = new(int32(0o555)) // a program is code, too
		add("code", codeDir, true, corev1.VolumeSource{ConfigMap: source})
	}
	if readOnly(d.Function) {
		add("tmp", "/tmp", false, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
		if d.Node == "" {
			add("data", dataDir, false, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
		}
	}
	if d.Node != "" {
		dir := path.Dir(socketOf(d.Node))
		add("socket", dir, true, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: new(corev1.HostPathDirectory)}})
		add("token", tokenDir, true, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: tokenSecret, DefaultMode: new(int32(0o440))}})
	}
	return vs, mounts
}

// socketOf is the path of a node runtime's socket, empty when the URL is none of one.
func socketOf(node string) string {
	u, err := url.Parse(node)
	if err != nil || u.Scheme != "unix" || u.Host != "" || !path.IsAbs(u.Path) || path.Dir(u.Path) == "/" {
		return ""
	}
	return path.Clean(u.Path)
}

// resources are what a replica gets. GPUs are a limit, because Kubernetes shares none.
func resources(r wish.Resources) (corev1.ResourceRequirements, error) {
	out := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, q := range []struct {
		flag, text string
		name       corev1.ResourceName
		lists      []corev1.ResourceList
	}{
		{"--cpu", r.CPU, corev1.ResourceCPU, []corev1.ResourceList{out.Requests}},
		{"--memory", r.MemoryRequest, corev1.ResourceMemory, []corev1.ResourceList{out.Requests}},
		{"--memory", r.Memory, corev1.ResourceMemory, []corev1.ResourceList{out.Requests, out.Limits}},
	} {
		if q.text == "" {
			continue
		}
		n, err := resource.ParseQuantity(q.text)
		if err != nil || n.Sign() <= 0 {
			return out, actions.Errorf(actions.Invalid, "%s %s: want a quantity of Kubernetes such as 500m, 2 or 4Gi", q.flag, q.text)
		}
		for _, list := range q.lists {
			list[q.name] = n
		}
	}
	if r.GPUs < 0 {
		return out, actions.Errorf(actions.Invalid, "--gpu %d: want 0 or more", r.GPUs)
	}
	if r.GPUs > 0 {
		name := r.GPUResource
		if name == "" {
			name = gpu
		}
		out.Limits[corev1.ResourceName(name)] = *resource.NewQuantity(int64(r.GPUs), resource.DecimalSI)
	}
	return out, nil
}
