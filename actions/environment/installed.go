package environment

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/disk"
)

// The files of an installed module.
const (
	actionFile = "action.yaml"
	lockFile   = "requirements.lock"
)

// section is the section python of the action of an installed module.
type section struct {
	EntryPoint  string `json:"entry_point,omitempty" yaml:"entry_point,omitempty"`
	Path        string `json:"path,omitempty" yaml:"path,omitempty"`
	Interpreter string `json:"interpreter" yaml:"interpreter"`
	WorkingDir  string `json:"working_dir,omitempty" yaml:"working_dir,omitempty"`
}

func (s section) json() (json.RawMessage, error) { return json.Marshal(s) }

// document is the action.yaml of an installed module.
type document struct {
	Name        string   `yaml:"name"`
	Version     string   `yaml:"version,omitempty"`
	Title       string   `yaml:"title,omitempty"`
	Description string   `yaml:"description,omitempty"`
	Author      string   `yaml:"author,omitempty"`
	License     string   `yaml:"license,omitempty"`
	Source      string   `yaml:"source,omitempty"`
	Keywords    []string `yaml:"keywords,omitempty"`
	Runtime     string   `yaml:"runtime"`
	Python      section  `yaml:"python"`
}

// writeAction writes the action.yaml of a module. Whoever reads it meanwhile sees the old
// one or the new one.
func writeAction(home string, m actions.Model) error {
	d := document{
		Name: m.Name, Version: m.Version, Title: m.Title, Description: m.Description, Author: m.Author,
		License: m.License, Source: m.Source, Keywords: m.Keywords, Runtime: m.Runtime,
	}
	if err := json.Unmarshal(m.Spec, &d.Python); err != nil {
		return fmt.Errorf("the action: %w", err)
	}
	var buf bytes.Buffer
	buf.WriteString("# Written by deepfn add.\n")
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(d); err != nil {
		return fmt.Errorf("the action: %w", err)
	}
	return disk.WriteFile(filepath.Join(home, actionFile), buf.Bytes(), 0o644)
}

// readDocument reads an action.yaml as writeAction writes it.
func readDocument(home string) (document, error) {
	var d document
	data := small(filepath.Join(home, actionFile))
	if data == nil {
		return d, fmt.Errorf("%s: %w", filepath.Join(home, actionFile), fs.ErrNotExist)
	}
	return d, yaml.Unmarshal(data, &d)
}

// current is the number of the installation that counts, "" when there is none.
func current(home string) string {
	d, err := readDocument(home)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(filepath.ToSlash(d.Python.Interpreter), "/")
	n, _ := strings.CutPrefix(first, "venv-")
	return n
}

// numbered are the folders of an installation.
var numbered = regexp.MustCompile(`^(venv|source|work)-([0-9]{1,9})$`)

// nextNumber is a number that no installation in home has.
func nextNumber(home string) (string, error) {
	entries, err := os.ReadDir(home)
	if err != nil {
		return "", err
	}
	next := 1
	for _, entry := range entries {
		if match := numbered.FindStringSubmatch(entry.Name()); match != nil {
			n, _ := strconv.Atoi(match[2]) // at most nine digits
			next = max(next, n+1)
		}
	}
	return strconv.Itoa(next), nil
}

// tidy removes the installations but two: the one that counts and the one before. Those
// that it cannot remove stay, which harms nobody.
func (e *Environments) tidy(home, now, previous string) {
	entries, err := os.ReadDir(home)
	for _, entry := range entries {
		match := numbered.FindStringSubmatch(entry.Name())
		if match != nil && match[2] != now && match[2] != previous {
			err = errors.Join(err, os.RemoveAll(filepath.Join(home, entry.Name())))
		}
	}
	if err != nil {
		e.cfg.Log.Warn("old installations are left", "path", home, "error", err)
	}
}

// List returns the installed modules by name. One whose action.yaml is broken has only
// its name and what can be seen. The error is that of ctx, or Unavailable.
func (e *Environments) List(ctx context.Context) ([]Installed, error) {
	if err := ctx.Err(); err != nil {
		return nil, coded(ctx, "modules", err)
	}
	entries, err := os.ReadDir(e.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, coded(ctx, "modules", err)
	}
	var all []Installed
	for _, entry := range entries {
		home := filepath.Join(e.cfg.Dir, entry.Name())
		if isModelName(entry.Name()) && exists(home, actionFile) && exists(home, lockFile) {
			all = append(all, e.read(home))
		}
	}
	return all, nil
}

// made is the first line of a lock file.
var made = regexp.MustCompile(`^# \S+, installed from (.*) for Python (\S+)\n`)

// read finds out what is installed in a folder.
func (e *Environments) read(home string) Installed {
	i := Installed{Lock: filepath.Join(home, lockFile)}
	if match := made.FindSubmatch(small(i.Lock)); match != nil {
		i.Source, i.Python = string(match[1]), string(match[2])
	}
	d, err := readDocument(home)
	if err != nil {
		e.cfg.Log.Warn("action is broken", "path", home, "error", err)
		i.Model = actions.Model{Name: filepath.Base(home), Runtime: actions.Python, Dir: home}
		return i
	}
	i.EntryPoint = d.Python.EntryPoint
	if i.Interpreter = d.Python.Interpreter; i.Interpreter != "" && !filepath.IsAbs(i.Interpreter) {
		i.Interpreter = filepath.Join(home, i.Interpreter)
	}
	i.Model = actions.Model{
		Name: filepath.Base(home), Version: d.Version, Title: d.Title, Description: d.Description, Author: d.Author,
		License: d.License, Source: d.Source, Keywords: d.Keywords, Runtime: d.Runtime, Dir: home,
	}
	i.Model.Spec, _ = d.Python.json() // strings have a JSON form
	return i
}

// Remove removes an installed module with all its installations; a server that runs it
// can start no more instances. The error is NotFound, Conflict for an action that was not
// installed by Add, Unavailable, Canceled or Deadline.
func (e *Environments) Remove(ctx context.Context, name string) error {
	what := "remove " + name
	home := filepath.Join(e.cfg.Dir, name)
	if e.cfg.Dir == "" || !isModelName(name) || !exists(home) {
		return actions.Errorf(actions.NotFound, "%.100s: there is no such module; there are: %s", what, e.names(ctx))
	}
	if err := os.MkdirAll(filepath.Join(e.cfg.Dir, ".locks"), 0o755); err != nil { // #nosec G301 -- as in Add
		return coded(ctx, what, err)
	}
	lock, err := e.lock(ctx, filepath.Join(e.cfg.Dir, ".locks", name))
	if err != nil {
		return coded(ctx, what, err)
	}
	defer func() { _ = lock.Close() }() // and unlocks
	if !exists(home, lockFile) {
		return actions.Errorf(actions.Conflict, "%s: %s was not installed by deepfn add; remove the folder yourself", what, home)
	}
	// First what makes it an action, last what makes it ours: a second try goes on.
	err = os.RemoveAll(filepath.Join(home, actionFile))
	entries, readErr := os.ReadDir(home)
	for _, entry := range entries {
		if entry.Name() != lockFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(home, entry.Name())))
		}
	}
	if err = errors.Join(err, readErr); err == nil {
		err = os.RemoveAll(home)
	}
	if err != nil {
		return coded(ctx, what, err)
	}
	return nil
}

// names lists the installed modules for people.
func (e *Environments) names(ctx context.Context) string {
	all, err := e.List(ctx)
	if err != nil || len(all) == 0 {
		return "none"
	}
	names := make([]string, len(all))
	for i, installed := range all {
		names[i] = installed.Model.Name
	}
	return strings.Join(names, ", ")
}

// extraName is the name of an optional part of a distribution.
var extraName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// isModelName reports whether a model can have that name.
func isModelName(s string) bool {
	return (actions.Model{Name: s, Runtime: actions.Python}).Validate() == nil
}

// wheelEntryPoint is the entry point that a wheel declares, "" when none is seen.
func wheelEntryPoint(name string) string {
	z, err := zip.OpenReader(name)
	if err != nil {
		return "" // pip says what is wrong with it
	}
	defer func() { _ = z.Close() }() // it was only read
	for _, f := range z.File {
		if dir, base := filepath.Split(f.Name); base != "entry_points.txt" || !strings.HasSuffix(dir, ".dist-info/") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return ""
		}
		data, err := io.ReadAll(io.LimitReader(r, maxMetadata))
		if closeErr := r.Close(); err != nil || closeErr != nil {
			return ""
		}
		if match := declared.FindSubmatch(data); match != nil {
			return string(match[1])
		}
	}
	return ""
}
