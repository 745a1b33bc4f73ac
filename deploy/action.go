package deploy

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// An actionPut is the body of PUT …/actions/NAME. What is absent stays as it is.
type actionPut struct {
	Namespace      string          `json:"namespace"`
	Name           string          `json:"name"`
	Exec           *execPut        `json:"exec,omitempty"`
	Annotations    whisk.KeyValues `json:"annotations,omitempty"`
	DelAnnotations []string        `json:"delAnnotations,omitempty"`
	Parameters     whisk.KeyValues `json:"parameters,omitempty"`
	Limits         *limitsPut      `json:"limits,omitempty"`
}

// An execPut is whisk.Exec as a client sends it: whether code is binary is the server's to
// say.
type execPut struct {
	Kind       string   `json:"kind"`
	Image      string   `json:"image,omitempty"`
	Code       string   `json:"code,omitempty"`
	Main       string   `json:"main,omitempty"`
	Components []string `json:"components,omitempty"`
}

type limitsPut struct {
	Timeout     int  `json:"timeout,omitempty"`
	Memory      int  `json:"memory,omitempty"`
	Logs        *int `json:"logs,omitempty"`
	Concurrency int  `json:"concurrency,omitempty"`
}

// A wanted action is what an actionPut is made of. An exec without a kind runs as it does,
// or in the image of the deployment if it is new.
type wanted struct {
	what        string // of the action, for messages
	exec        execPut
	annotations whisk.KeyValues
	options     Options
	// inherited are the parameters of the action's package.
	inherited whisk.KeyValues
	// memory and timeout are the limits of a new action that no option sets; 0: none.
	memory, timeout int
}

func (f Function) wanted(release string) wanted {
	text, _ := f.code()
	exec := execPut{Code: text, Main: f.Main}
	switch {
	case f.Kind != "":
		exec.Kind = f.Kind
	case f.Image != "":
		exec.Kind, exec.Image = whisk.Blackbox, f.Image
	}
	return wanted{
		exec: exec, annotations: f.annotations(release), options: f.Options,
		memory: f.Memory, timeout: defaultTimeoutMillis,
	}
}

func (s Sequence) wanted(release string, components []string) wanted {
	return wanted{
		exec:        execPut{Kind: whisk.Sequence, Components: components},
		annotations: whisk.KeyValues{pair(originAnnotation, origin{Release: release})},
		options:     s.Options,
	}
}

// create returns the body that makes the action.
func (w wanted) create(image string, b bounds) (put actionPut, warnings []string, err error) {
	limits := w.options.Limits
	if limits.Memory == 0 {
		limits.Memory = w.memory
	}
	if limits.Timeout == 0 {
		limits.Timeout = w.timeout
	}
	limits, warnings = b.cutLimits(w.what, limits)
	if limits != (Limits{}) {
		l := limitsPut(limits)
		put.Limits = &l
	}
	w.exec = w.exec.in(image)
	put.Exec, put.Parameters = &w.exec, w.options.Parameters
	web, _, err := w.options.web(nil)
	put.Annotations = merge(merge(merge(w.annotations, whisk.KeyValues{pair("provide-api-key", false)}), web), w.options.Annotations)
	return put, warnings, err
}

// update returns the body that makes of an action what is wanted, and what changes;
// nothing changes if that is empty.
func (w wanted) update(there whisk.Action, namespace, image string, b bounds) (put actionPut, changes, warnings []string, err error) {
	changed := func(format string, args ...any) { changes = append(changes, fmt.Sprintf(format, args...)) }
	w.exec = w.exec.filled(there.Exec).in(image)
	if text := w.exec.changed(there.Exec, namespace); text != "" {
		put.Exec = &w.exec
		changed("%s", text)
	}
	limits, warnings := b.cutLimits(w.what, w.options.Limits)
	l := limitsPut{}
	set := func(name string, value, is int, field *int) {
		if value != 0 && value != is {
			*field = value
			changed("limits.%s %d → %d", name, is, value)
		}
	}
	set("timeout", limits.Timeout, there.Limits.Timeout, &l.Timeout)
	set("memory", limits.Memory, there.Limits.Memory, &l.Memory)
	set("concurrency", limits.Concurrency, there.Limits.Concurrency, &l.Concurrency)
	if limits.Logs != nil && *limits.Logs != there.Limits.Logs {
		l.Logs = limits.Logs
		changed("limits.logs %d → %d", there.Limits.Logs, *limits.Logs)
	}
	if l != (limitsPut{}) {
		put.Limits = &l
	}
	if w.options.Limits.Memory == 0 && there.Limits.Memory > 0 && there.Limits.Memory < w.memory {
		warnings = append(warnings, fmt.Sprintf("%s: it has %d MiB of memory and may need %d; --memory %d sets that", w.what, there.Limits.Memory, w.memory, w.memory))
	}
	web, gone, err := w.options.web(there.Annotations)
	wants := merge(merge(w.annotations, web), w.options.Annotations)
	put.Annotations = differing(wants, there.Annotations)
	for _, kv := range put.Annotations {
		changed("annotation %s", kv.Key)
	}
	for _, key := range gone {
		if there.Annotations.Lookup(key) != nil && wants.Lookup(key) == nil {
			put.DelAnnotations = append(put.DelAnnotations, key)
			changed("no annotation %s", key)
		}
	}
	// The server takes parameters as a whole, and shows those of the package among them.
	own := without(there.Parameters, w.inherited)
	if differ := differing(w.options.Parameters, own); len(differ) > 0 {
		put.Parameters = merge(own, w.options.Parameters)
		for _, kv := range differ {
			changed("parameter %s", kv.Key)
		}
	}
	return put, changes, warnings, err
}

// filled takes what was not said from what is there.
func (e execPut) filled(there whisk.Exec) execPut {
	if e.Kind == whisk.Sequence || there.Kind == whisk.Sequence {
		return e
	}
	if e.Kind == "" {
		e.Kind, e.Image = there.Kind, there.Image
	}
	if e.Main == "" {
		e.Main = there.Main
	}
	return e
}

// in is what runs in an image unless something else was said.
func (e execPut) in(image string) execPut {
	if e.Kind == "" {
		e.Kind, e.Image = whisk.Blackbox, image
	}
	return e
}

// isKind says whether a kind is the one that was asked for, "family:default" among them.
func isKind(asked, is string) bool {
	family, version, _ := strings.Cut(asked, ":")
	return asked == is || (version == "default" && strings.HasPrefix(is, family+":"))
}

// changed says in what an exec differs from that of an action, or "".
func (e execPut) changed(there whisk.Exec, namespace string) string {
	code := ""
	if there.Code != nil {
		code = *there.Code
	}
	switch {
	case !isKind(e.Kind, there.Kind):
		return fmt.Sprintf("kind %s → %s", there.Kind, e.Kind)
	case e.Image != "" && e.Image != there.Image:
		return fmt.Sprintf("image %s → %s", there.Image, e.Image)
	case e.Kind == whisk.Sequence && !slices.Equal(full(e.Components, namespace), full(there.Components, namespace)):
		return "components → " + strings.Join(e.Components, ", ")
	case e.Code != code:
		return "code"
	case e.Main != there.Main:
		return fmt.Sprintf("main %q → %q", there.Main, e.Main)
	}
	return ""
}

// full gives names their namespace.
func full(names []string, namespace string) []string {
	var out []string
	for _, name := range names {
		n, err := whisk.ParseName(name, namespace)
		if err != nil {
			out = append(out, name)
			continue
		}
		out = append(out, n.String())
	}
	return out
}

// webAnnotations are those that make a web action, as wsk --web has them.
func webAnnotations() []string { return []string{"web-export", "raw-http", "final"} }

// secretAnnotation is what a caller of a web action has to send.
const secretAnnotation = "require-whisk-auth"

// web returns the annotations that Web and Secret ask for and the names of those that
// they remove.
func (o Options) web(there whisk.KeyValues) (set whisk.KeyValues, gone []string, err error) {
	switch o.Web {
	case Yes, Raw:
		set = whisk.KeyValues{pair("web-export", true), pair("raw-http", o.Web == Raw), pair("final", true)}
	case No:
		gone = append(webAnnotations(), secretAnnotation)
	case "":
	default:
		return nil, nil, actions.Errorf(actions.Invalid, "--web %s: want yes, raw or no", o.Web)
	}
	if o.Secret == "" {
		return set, gone, nil
	}
	if o.Secret != "false" && (o.Web == No || (o.Web == "" && !there.Truthy("web-export"))) {
		return nil, nil, actions.Errorf(actions.Invalid, "--web-secure is for web actions: add --web yes or --web raw")
	}
	switch o.Secret {
	case "false":
		gone = append(gone, secretAnnotation)
	case "true":
		if isNumber(there.Lookup(secretAnnotation)) { // as wsk has it: the one that is there
			break
		}
		n, err := rand.Int(rand.Reader, big.NewInt(1<<53-1)) // what JavaScript's numbers hold
		if err != nil {
			return nil, nil, actions.Errorf(actions.Internal, "a secret: %w", err)
		}
		set = append(set, pair(secretAnnotation, n.Int64()))
	default:
		set = append(set, pair(secretAnnotation, o.Secret))
	}
	return set, gone, nil
}

func isNumber(raw json.RawMessage) bool {
	var n json.Number
	return len(raw) > 0 && raw[0] != '"' && json.Unmarshal(raw, &n) == nil
}

// merge returns base with the pairs of over, which win.
func merge(base, over whisk.KeyValues) whisk.KeyValues {
	out := slices.Clone(base)
	for _, kv := range over {
		i := slices.IndexFunc(out, func(have whisk.KeyValue) bool { return have.Key == kv.Key })
		if i < 0 {
			out = append(out, kv)
		} else {
			out[i].Value = kv.Value
		}
	}
	return out
}

// without returns the pairs of all that inherited does not have with the same value.
func without(all, inherited whisk.KeyValues) whisk.KeyValues {
	return slices.DeleteFunc(slices.Clone(all), func(kv whisk.KeyValue) bool {
		return equalJSON(kv.Value, inherited.Lookup(kv.Key))
	})
}

// differing returns the pairs of wants that there has not, or has with another value.
func differing(wants, there whisk.KeyValues) whisk.KeyValues {
	var out whisk.KeyValues
	for _, kv := range wants {
		if !equalJSON(kv.Value, there.Lookup(kv.Key)) {
			out = append(out, kv)
		}
	}
	return out
}

func equalJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}
