package deploy

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/deepfn/deepfn/actions/whisk"
)

// escaped is a name for a path: each segment escaped.
func escaped(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

// marshal writes JSON as the library sends it: '<' stays '<', as in a source.
func marshal(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// packageOf is the package of an action, whose namespace is namespace[/package].
func packageOf(a whisk.Action) string {
	_, pkg, _ := strings.Cut(a.Namespace, "/")
	return pkg
}

// relative is the name of an action in its namespace, [package/]name.
func relative(a whisk.Action) string { return joined(packageOf(a), a.Name) }
