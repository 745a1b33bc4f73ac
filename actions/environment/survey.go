package environment

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions"
)

// group is the entry points of DEEPaaS modules.
const group = "deepaas.v2.model"

// whatIsThere asks the interpreter of an environment for the modules in it. "direct" is
// where a distribution was installed from, when that was no index.
const whatIsThere = `
import importlib.metadata, json, sys
found, broken, seen = [], [], set()
def look(dist):
    meta = dist.metadata
    key = ((meta and meta.get("Name")) or "").lower().replace("_", "-")
    if not key or key in seen:
        return
    seen.add(key)
    entries = [e.name for e in dist.entry_points if e.group == "deepaas.v2.model"]
    old = any(e.group == "deepaas.model" for e in dist.entry_points)
    direct = json.loads(dist.read_text("direct_url.json") or "{}").get("url", "")
    if entries or old or direct:
        found.append({"name": key, "version": dist.version or "", "summary": meta.get("Summary") or "",
            "author": meta.get("Author") or meta.get("Author-email") or "", "direct": direct, "old": old,
            "license": meta.get("License-Expression") or meta.get("License") or "", "source": meta.get("Home-page") or "",
            "urls": meta.get_all("Project-URL") or [], "entry_points": sorted(set(entries))})
for dist in importlib.metadata.distributions():
    try:
        look(dist)
    except Exception as e:
        broken.append("%s: %s: %s" % (getattr(dist, "_path", "?"), type(e).__name__, e))
json.dump({"found": found, "broken": broken}, sys.stdout)
`

// A distribution is one that has entry points, or was installed from a file or a folder.
type distribution struct {
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	Summary     string   `json:"summary"`
	Author      string   `json:"author"`
	License     string   `json:"license"`
	Source      string   `json:"source"`
	URLs        []string `json:"urls"`
	Direct      string   `json:"direct"`
	Old         bool     `json:"old"` // it is a module of the first API
	EntryPoints []string `json:"entry_points"`
}

// survey lists the distributions of an environment that may be the module: the one that
// was installed from where, else all that have entry points. DEEPaaS's own test model is
// not among them.
func (e *Environments) survey(ctx context.Context, venv, where string) ([]distribution, error) {
	out, err := query(ctx, binary(venv), "-I", "-c", whatIsThere)
	var there struct {
		Found  []distribution `json:"found"`
		Broken []string       `json:"broken"`
	}
	if err == nil {
		err = json.Unmarshal(out, &there)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the module: %w", err)
	}
	for _, what := range there.Broken {
		e.cfg.Log.Warn("distribution left out, its metadata is broken", "path", venv, "error", what)
	}
	found := slices.DeleteFunc(there.Found, func(d distribution) bool { return d.Name == "deepaas" })
	for _, d := range found {
		if u, err := url.Parse(d.Direct); err == nil && d.Direct != "" && same(u.Path, where) {
			return []distribution{d}, nil
		}
	}
	return found, nil
}

// same reports whether two paths are those of one file or folder.
func same(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// entryPoint chooses the entry point that is the module: the one that is wanted, else the
// only one; "" when there is none.
func entryPoint(found []distribution, wanted string) (string, error) {
	var names []string
	old := false
	for _, d := range found {
		names = append(names, d.EntryPoints...)
		old = old || d.Old
	}
	switch {
	case wanted != "" && slices.Contains(names, wanted):
		return wanted, nil
	case len(names) == 1 && wanted == "":
		return names[0], nil
	case len(names) > 0 && wanted != "":
		return "", actions.Errorf(actions.NotFound, "it has no entry point %q of %s; it has %s", wanted, group, strings.Join(names, ", "))
	case len(names) > 0:
		return "", actions.Errorf(actions.Invalid, "it has several entry points of %s: %s; choose one of them", group, strings.Join(names, ", "))
	case wanted != "":
		return "", actions.Errorf(actions.NotFound, "it has no entry point %q, and no other of %s", wanted, group)
	case old:
		return "", actions.Errorf(actions.Unsupported, "it is a module of the old DEEPaaS API (deepaas.model); only modules of V2 (%s) are run", group)
	}
	return "", nil
}

// declared finds an entry point of the group in the text of a pyproject.toml, a setup.cfg,
// a setup.py or an entry_points.txt, to call the module by it before it is installed.
var declared = regexp.MustCompile(`deepaas\.v2\.model["'\]\s:=\[{(]*([A-Za-z_][\w.-]*)["']?\s*=\s*["']?[A-Za-z_]`)

// declaredName is the entry point that a source declares, "" when none is seen.
func declaredName(dir string) string {
	for _, name := range []string{"pyproject.toml", "setup.cfg", "setup.py"} {
		if match := declared.FindSubmatch(small(filepath.Join(dir, name))); match != nil {
			return string(match[1])
		}
	}
	return ""
}

// isProject reports whether pip can install a folder.
func isProject(dir string) bool {
	return exists(dir, "pyproject.toml") || exists(dir, "setup.py") || exists(dir, "setup.cfg")
}

// maxMetadata is how many bytes of a file of metadata are read.
const maxMetadata = 1 << 20

// small reads a small file; what cannot be read is empty.
func small(name string) []byte {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(name) // #nosec G304 -- a fixed name in the source of the module
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err != nil || len(data) > maxMetadata {
		return nil
	}
	return data
}

// describe fills in what is known of a module for people: what its metadata file says,
// else what its distribution does.
func describe(m *actions.Model, dir string, d distribution) {
	if dir != "" {
		if !describeV2(m, small(filepath.Join(dir, "ai4-metadata.yml"))) && !describeV2(m, small(filepath.Join(dir, "ai4-metadata.yaml"))) {
			describeV1(m, small(filepath.Join(dir, "metadata.json")))
		}
	}
	m.Version = cmp.Or(m.Version, d.Version)
	m.Title = line(cmp.Or(m.Title, d.Summary))
	m.Author = line(cmp.Or(m.Author, d.Author))
	m.License = line(cmp.Or(m.License, d.License))
	m.Source = cmp.Or(m.Source, d.Source)
	for _, url := range d.URLs { // "Homepage, https://…"
		if _, address, ok := strings.Cut(url, ", "); ok && m.Source == "" {
			m.Source = address
		}
	}
}

// line is the first line of a text; some licenses are whole texts.
func line(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(s)
}

// describeV2 reads an ai4-metadata.yml. It reports whether there is one; what has another
// form than it should is left out.
func describeV2(m *actions.Model, data []byte) bool {
	var meta map[string]any
	if len(data) == 0 || yaml.Unmarshal(data, &meta) != nil {
		return false
	}
	links, _ := meta["links"].(map[string]any)
	m.Title = cmp.Or(text(meta["title"]), text(meta["summary"]))
	m.Description = text(meta["description"])
	m.Version = text(meta["version"])
	m.License = text(meta["license"])
	m.Author = text(meta["author"])
	m.Source = text(links["source_code"])
	for _, key := range []string{"tags", "keywords"} {
		if tags, ok := meta[key].([]any); ok && m.Keywords == nil {
			for _, tag := range tags {
				if s := text(tag); s != "" {
					m.Keywords = append(m.Keywords, s)
				}
			}
		}
	}
	return true
}

// describeV1 reads a metadata.json of the first catalog.
func describeV1(m *actions.Model, data []byte) {
	var meta struct {
		Title       any `json:"title"`
		Description any `json:"description"`
		Keywords    any `json:"keywords"`
		License     any `json:"license"`
		Sources     struct {
			Code any `json:"code"`
		} `json:"sources"`
	}
	if len(data) == 0 || json.Unmarshal(data, &meta) != nil {
		return
	}
	m.Title, m.License, m.Source = text(meta.Title), text(meta.License), text(meta.Sources.Code)
	m.Description = text(meta.Description)
	if lines, ok := meta.Description.([]any); ok {
		for _, l := range lines {
			m.Description += text(l) + "\n"
		}
	}
	if tags, ok := meta.Keywords.([]any); ok {
		for _, tag := range tags {
			m.Keywords = append(m.Keywords, text(tag))
		}
	}
}

// text is a value of a metadata file that should be a text.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v)
	case int, float64:
		return fmt.Sprint(v)
	}
	return ""
}
