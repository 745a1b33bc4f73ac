package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// The kinds of managed runtimes.
const (
	pythonKind   = "python:3"
	modelFamily  = "deepfn:"
	modelDefault = "deepfn:default"
)

// maxCode is how many bytes an exec may have (Exec.sizeLimit).
const maxCode = 48 << 20

// pythonKinds are the kinds that mean Python. Which version runs the server decides.
var pythonKinds = regexp.MustCompile(`^python:3(\.[0-9]+)?$`)

// isBinary says whether code is base64, as apache/openwhisk tells it (Exec.isBinaryCode): a
// source without spaces may be, too.
func isBinary(code string) bool {
	code = strings.TrimSpace(code)
	if len(code) == 0 || len(code)%4 != 0 {
		return false
	}
	code = strings.TrimSuffix(strings.TrimSuffix(code, "="), "=")
	for i := range len(code) {
		switch b := code[i]; {
		case 'A' <= b && b <= 'Z', 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '+', b == '/':
		default:
			return false
		}
	}
	return true
}

// A checkedExec is an exec that can be kept, without its code.
type checkedExec struct {
	exec  whisk.Exec
	model string // see action
	hash  string
}

// checkExec checks what an action is to run. An image is not asked for here, as a registry
// is not: the model of its name may be added later.
func (c *Controller) checkExec(ctx context.Context, namespace string, e whisk.Exec) (checkedExec, error) {
	code := ""
	if e.Code != nil {
		code = *e.Code
	}
	if size := int64(len(code) + len(e.Main)); size > maxCode*4/3+1024 || !isBinary(code) && size > maxCode {
		return checkedExec{}, tooLarge("exec", size, maxCode)
	}
	checked := checkedExec{exec: whisk.Exec{
		Kind: strings.ToLower(strings.TrimSpace(e.Kind)), Main: e.Main, Binary: isBinary(code),
	}}
	blank := strings.TrimSpace(code) == ""
	switch kind := &checked.exec.Kind; {
	case *kind == "":
		return checked, malformed("'kind' must be a string defined in 'exec'")
	case *kind == whisk.Sequence:
		var err error
		checked.exec = whisk.Exec{Kind: *kind}
		checked.exec.Components, err = componentNames(e.Components, namespace)
		return checked, err
	case strings.HasPrefix(*kind, modelFamily):
		var err error
		checked.model, err = c.kindModel(ctx, *kind, code)
		return checked, err
	case *kind == whisk.Blackbox && strings.TrimSpace(e.Image) == "":
		return checked, malformed("'image' must be a string defined in 'exec' for 'blackbox' actions")
	case *kind == whisk.Blackbox:
		checked.exec.Image = strings.TrimSpace(e.Image)
		if blank {
			return checked, nil
		}
		if model, ok := modelCode(code); ok {
			checked.model = model
			return checked, c.mustHave(ctx, model)
		}
	case *kind == "python:default":
		*kind = pythonKind
		fallthrough
	case pythonKinds.MatchString(*kind):
		if blank {
			return checked, malformed("'code' must be a string or attachment object defined in 'exec' for '%s' actions", *kind)
		}
	default:
		return checked, c.unsupportedKind(ctx, *kind)
	}
	sum := sha256.Sum256([]byte(code))
	checked.hash = hex.EncodeToString(sum[:])
	return checked, nil
}

// unsupportedKind refuses a kind, and says which there are.
func (c *Controller) unsupportedKind(ctx context.Context, kind string) error {
	kinds := []string{pythonKind, whisk.Blackbox, whisk.Sequence, modelDefault}
	models, err := c.models(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		kinds = append(kinds, modelFamily+m.Name)
	}
	return malformed("The specified runtime '%.80s' is not supported by this platform. Valid values are: '%s'.",
		kind, strings.Join(kinds, "', '"))
}

// kindModel is the model of a kind deepfn:MODEL, or of deepfn:default and its code.
func (c *Controller) kindModel(ctx context.Context, kind, code string) (string, error) {
	model := strings.TrimPrefix(kind, modelFamily)
	named, ok := modelCode(code)
	switch {
	case kind == modelDefault && ok:
		return named, c.mustHave(ctx, named)
	case kind == modelDefault, strings.TrimSpace(code) != "" && named != model:
		return "", malformed(`the code of a '%s' action is {"model": "name"}`, kind)
	}
	err := c.mustHave(ctx, model)
	if actions.CodeOf(err) == actions.NotFound || actions.CodeOf(err) == actions.Invalid {
		return "", c.unsupportedKind(ctx, kind)
	}
	return model, err
}

// mustHave refuses a model that is not there.
func (c *Controller) mustHave(ctx context.Context, model string) error {
	_, err := c.cfg.Catalog.Model(ctx, model)
	if actions.CodeOf(err) == actions.NotFound || actions.CodeOf(err) == actions.Invalid {
		return malformed("%s", err)
	}
	return err
}

// modelCode reads code that names a model, {"model": "name"}, base64 or not.
func modelCode(code string) (string, bool) {
	code = strings.TrimSpace(code)
	if isBinary(code) && len(code) < 1<<10 {
		if plain, err := decodeCode(code); err == nil {
			code = strings.TrimSpace(string(plain))
		}
	}
	if !strings.HasPrefix(code, "{") {
		return "", false
	}
	var doc struct {
		Model string `json:"model"`
	}
	if err := actions.DecodeStrict([]byte(code), &doc); err != nil || doc.Model == "" {
		return "", false
	}
	return doc.Model, true
}

// imageModel is the model that an image holds: the one that is named like its last segment,
// as it is or without what the catalogs of DEEP put before it.
func (c *Controller) imageModel(ctx context.Context, image string) (string, error) {
	name := image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	models, err := c.models(ctx)
	if err != nil {
		return "", err
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	for _, wanted := range []string{
		name, plain(name), strings.TrimPrefix(plain(name), "deep-oc-"), strings.TrimPrefix(plain(name), "uc-"),
	} {
		i := slices.IndexFunc(models, func(m actions.Model) bool { return m.Name == wanted || plain(m.Name) == wanted })
		if i >= 0 {
			return models[i].Name, nil
		}
	}
	there := make([]string, len(models))
	for i, m := range models {
		there[i] = m.Name
	}
	return "", actions.Errorf(actions.NotFound,
		"Failed to pull container image '%s'. Images run here as the model of their name; there is none %q. There are: %s. To add one: deepfn add FOLDER, ZIP or GIT-URL",
		image, name, strings.Join(there, ", "))
}

// entryPoint is the verb that the entry point of an action of a model means.
func entryPoint(main string) (actions.Verb, error) {
	switch main {
	case "", "main", string(actions.Predict):
		return actions.Predict, nil
	case string(actions.Train):
		return actions.Train, nil
	case string(actions.Metadata):
		return actions.Metadata, nil
	}
	return "", actions.Errorf(actions.Invalid, "there is no entry point %.80q; main is predict, train or metadata", main)
}

// componentNames returns the full names of the components of a sequence.
func componentNames(names []string, namespace string) ([]string, error) {
	if names == nil {
		return nil, malformed("'components' must be defined for sequence kind")
	}
	full := make([]string, len(names))
	for i, name := range names {
		n, err := fullName(name, namespace)
		if err != nil {
			return nil, err
		}
		full[i] = n.String()
	}
	return full, nil
}

// fullName reads namespace/[package/]name, with or without a slash before it.
func fullName(text, namespace string) (whisk.Name, error) {
	text = "/" + strings.Trim(text, "/")
	if strings.Count(text, "/") < 2 {
		return whisk.Name{}, malformed(badFullName)
	}
	n, err := whisk.ParseName(text, namespace)
	if err != nil {
		return n, malformed("%s", err)
	}
	return n, nil
}

// A reference is the name of an entity in a body: text, or an object.
type reference struct{ whisk.Name }

// UnmarshalJSON reads "/namespace/[package/]name" or {"path", "name"}.
func (r *reference) UnmarshalJSON(data []byte) error {
	text := ""
	if err := json.Unmarshal(data, &text); err != nil {
		var pair whisk.PathName
		if json.Unmarshal(data, &pair) != nil {
			return malformed("fully qualified name malformed")
		}
		text = pair.Path + "/" + pair.Name
	}
	n, err := fullName(text, whisk.Own)
	r.Name = n
	return err
}
