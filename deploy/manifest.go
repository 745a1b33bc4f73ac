package deploy

import (
	"bytes"
	"embed"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

//go:embed manifests
var manifests embed.FS

// The members of a manifest, as the template has them. The format is that of
// apache/openwhisk-wskdeploy, parsers/yamlparser.go.
type (
	manifest struct {
		Release, Package string
		Actions          []manifestAction
		Sequences        []manifestSequence
	}
	manifestAction struct {
		Name, Docker, Function, Code, Main, Web string
		Timeout, Memory                         int
		Logs                                    *int
		Inputs, Annotations                     whisk.KeyValues
	}
	manifestSequence struct {
		Name, Actions, Web string
		Annotations        whisk.KeyValues
	}
)

// Manifest returns the deployment as a manifest of wskdeploy, for a file in the folder
// dir: code is named by its path from there. The error is Invalid for what a manifest
// cannot say.
func Manifest(d Deployment, dir string) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	doc := manifest{Release: d.Release, Package: d.Package}
	if doc.Package == "" {
		doc.Package = whisk.NoPackage // wskdeploy's word for it
	}
	for _, f := range d.Functions {
		a, err := f.manifest(d, dir)
		if err != nil {
			return nil, err
		}
		doc.Actions = append(doc.Actions, a)
	}
	for _, s := range d.Sequences {
		seq, err := s.manifest(d)
		if err != nil {
			return nil, err
		}
		doc.Sequences = append(doc.Sequences, seq)
	}
	text := template.Must(template.New("wskdeploy.yaml.tmpl").Funcs(template.FuncMap{"json": scalar}).ParseFS(manifests, "manifests/wskdeploy.yaml.tmpl"))
	var buf bytes.Buffer
	if err := text.Execute(&buf, doc); err != nil {
		return nil, actions.Errorf(actions.Internal, "manifest: %w", err)
	}
	return buf.Bytes(), nil
}

// scalar writes a value as JSON, which is YAML.
func scalar(v any) (string, error) {
	raw, err := marshal(v)
	return string(raw), err
}

func (f Function) manifest(d Deployment, dir string) (manifestAction, error) {
	w, image := f.wanted(d.Release), f.Image
	if image == "" {
		image = d.Image
	}
	if f.Kind != "" {
		return manifestAction{}, actions.Errorf(actions.Invalid, "action %s: the manifest is for images, not for --kind", f.Name)
	}
	a := manifestAction{
		Name: f.Name, Docker: image, Main: f.Main, Web: f.Web, Memory: f.Memory, Timeout: defaultTimeoutMillis,
		Logs: f.Limits.Logs, Inputs: f.Parameters,
	}
	if f.Limits.Memory != 0 {
		a.Memory = f.Limits.Memory
	}
	if f.Limits.Timeout != 0 {
		a.Timeout = f.Limits.Timeout
	}
	text, _ := f.code()
	if named := f.manifestFile(dir); named != "" {
		a.Function = named
	} else {
		a.Code = text
	}
	secret, err := f.secret()
	if err != nil {
		return a, err
	}
	a.Annotations = merge(merge(merge(w.annotations, whisk.KeyValues{pair("provide-api-key", false)}), secret), f.Annotations)
	return a, interpolated(f.Name, slices.Concat(a.Inputs, a.Annotations))
}

// manifestFile is the path of a file that wskdeploy would read as we do: the text of a
// source, or a zip, which it turns into base64.
func (f Function) manifestFile(dir string) string {
	if f.File == "" {
		return ""
	}
	_, binary := f.code()
	if ext := filepath.Ext(f.File); ext != ".zip" && (ext != ".py" || binary) {
		return ""
	}
	from, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	to, err := filepath.Abs(f.File)
	if err != nil {
		return ""
	}
	path, err := filepath.Rel(from, to)
	if err != nil {
		return ""
	}
	return filepath.ToSlash(path)
}

func (s Sequence) manifest(d Deployment) (manifestSequence, error) {
	out := manifestSequence{Name: s.Name, Web: s.Web}
	var names []string
	for _, component := range s.Components {
		ours := slices.ContainsFunc(d.Functions, func(f Function) bool { return f.Name == component })
		n, err := whisk.ParseName(component, whisk.Own)
		switch {
		case err != nil:
			return out, actions.Errorf(actions.Invalid, "sequence %s: %w", s.Name, err)
		case ours && d.Package != "":
			n.Package = d.Package
		case n.Namespace != whisk.Own || (n.Package == "" && d.Package != "") || strings.Contains(component, ","):
			return out, actions.Errorf(actions.Invalid, "sequence %s: a manifest cannot name the action %s from package %q", s.Name, component, d.Package)
		}
		names = append(names, joined(n.Package, n.Entity))
	}
	out.Actions = strings.Join(names, ",")
	secret, err := s.secret()
	if err != nil {
		return out, err
	}
	out.Annotations = merge(merge(s.wanted(d.Release, nil).annotations, secret), s.Annotations)
	return out, interpolated(s.Name, out.Annotations)
}

// secret is the annotation of Options.Secret.
func (o Options) secret() (whisk.KeyValues, error) {
	set, _, err := o.web(nil)
	if value := set.Lookup(secretAnnotation); value != nil {
		return whisk.KeyValues{{Key: secretAnnotation, Value: value}}, err
	}
	return nil, err
}

// interpolated refuses texts that wskdeploy would take for variables of its environment.
func interpolated(action string, pairs whisk.KeyValues) error {
	for _, kv := range pairs {
		value := string(kv.Value)
		if strings.HasPrefix(value, `"$`) || strings.Contains(value, "${") {
			return actions.Errorf(actions.Invalid, "action %s: wskdeploy would replace the '$' in the value of %s by a variable; set that one with deepfn deploy", action, kv.Key)
		}
	}
	return nil
}
