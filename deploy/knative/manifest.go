package knative

import (
	"bytes"
	"context"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/deepfn/deepfn/deploy/knative/wish"
)

// Manifest returns what is wanted as YAML for kubectl apply, the same for the same deployment.
// No cluster is asked: the objects have passed the checks of a Knative that has its defaults,
// and a comment says what else has to be switched on. An empty namespace leaves it to kubectl.
// The error is Invalid.
func Manifest(ctx context.Context, d wish.Deployment, namespace string) ([]byte, error) {
	list, err := objects(ctx, assumed(d), d, namespace)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "# The model %s on Knative: kubectl apply --server-side -f THIS_FILE. Written by deepfn %s.\n", d.Model, d.Release)
	if features := needed(d); len(features) > 0 {
		fmt.Fprintf(&buf, "#\n# Knative lets a function have a folder of its node, and a group for its files, only when it is told to, once:\n#   %s\n", switchOn(features))
		fmt.Fprintf(&buf, "# The Secret %s, with the token of the node runtime, has to be in the namespace, too.\n", tokenSecret)
	}
	for i, o := range list {
		if i > 0 {
			buf.WriteString("---\n")
		}
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("knative: %s %s: %w", o.word, o.GetName(), err)
		}
		buf.Write(text)
	}
	return buf.Bytes(), nil
}
