package knative

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/kmeta"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// fieldManager is who we are in server-side apply, and in the label managed-by.
const fieldManager = "deepfn"

// The labels and annotations of what we make.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelInstance  = "app.kubernetes.io/instance"
	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"

	annotationModel        = "deepfn.dev/model"
	annotationModelVersion = "deepfn.dev/model-version"
	annotationRelease      = "deepfn.dev/release"
)

// selector selects what we have made, or of that what is of one function.
func selector(name string) string {
	text := labelManagedBy + "=" + fieldManager
	if name != "" {
		text += "," + labelInstance + "=" + name
	}
	return text
}

// meta is the metadata of one of our objects.
func meta(d wish.Deployment, namespace, name, component string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: name, Namespace: namespace}
	m.Labels = map[string]string{
		labelManagedBy: fieldManager, labelInstance: d.Name, labelName: wish.ServiceName(d.Model), labelComponent: component,
	}
	m.Annotations = map[string]string{annotationModel: d.Model, annotationRelease: d.Release}
	if d.ModelVersion != "" {
		m.Annotations[annotationModelVersion] = d.ModelVersion
	}
	return m
}

// reserved says that a label or an annotation of the user is one of ours.
func reserved(d wish.Deployment) error {
	ours := meta(d, "", "", "")
	for key := range d.Labels {
		if _, found := ours.Labels[key]; found {
			return actions.Errorf(actions.Invalid, "--label %s: deepfn sets this one", key)
		}
	}
	for _, key := range []string{annotationModel, annotationModelVersion, annotationRelease} {
		if _, found := d.Annotations[key]; found {
			return actions.Errorf(actions.Invalid, "--annotation %s: deepfn sets this one", key)
		}
	}
	return nil
}

// merged is a map with what another adds.
func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = make(map[string]string, len(b))
	}
	maps.Copy(out, b)
	return out
}

// child is the name of an object of a function: it fits into a label of DNS however long
// that of the function is.
func child(d wish.Deployment, suffix string) string {
	return kmeta.ChildName(d.Name, "-"+suffix)
}

// digest is a short name for content.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		_, _ = h.Write(part) // never fails
		_, _ = h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))[:10]
}
