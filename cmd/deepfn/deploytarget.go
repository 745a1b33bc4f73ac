package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/catalog"
	"github.com/deepfn/deepfn/deploy"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// maxCode is how much code an action may have: 48 MiB in base64, which is OpenWhisk's own
// limit, are three quarters of that.
const maxCode = 36 << 20

// deployment is what the command line asks for.
func (r *rollout) deployment(ctx context.Context, h *house, models []string) (deploy.Deployment, error) {
	d := deploy.Deployment{Package: r.pkg, Image: defaultImage, Release: release}
	options, err := r.options()
	if err != nil {
		return d, err
	}
	if r.all {
		if d.Package == "" {
			d.Package = allPackage
		}
		known, err := h.catalog.Models(ctx)
		if err != nil {
			return d, err
		}
		for _, m := range known {
			models = append(models, m.Name)
		}
	}
	for _, model := range models {
		f, err := r.function(ctx, h, model)
		if err != nil {
			return d, err
		}
		if r.name != "" {
			f.Name = r.name
		}
		f.Options = options
		d.Functions = addFunction(d.Functions, f)
	}
	for _, text := range r.sequences {
		if err := r.addSequence(ctx, h, &d, text, options); err != nil {
			return d, err
		}
	}
	return d, nil
}

// addFunction adds a function unless the same is there already.
func addFunction(all []deploy.Function, f deploy.Function) []deploy.Function {
	same := func(have deploy.Function) bool {
		return have.Name == f.Name && have.File == f.File && have.Model.Dir == f.Model.Dir
	}
	if slices.ContainsFunc(all, same) {
		return all
	}
	return append(all, f)
}

// addSequence reads NAME=A,B,… and adds the sequence, and its models and files. What is
// said on the command line for the web, and as annotations, is said of the sequence.
func (r *rollout) addSequence(ctx context.Context, h *house, d *deploy.Deployment, text string, options deploy.Options) error {
	name, list, ok := strings.Cut(text, "=")
	if !ok || name == "" || list == "" {
		return usageError{fmt.Errorf("--sequence %q: want NAME=A,B,…", text)}
	}
	seq := deploy.Sequence{Name: name, Options: deploy.Options{Web: options.Web, Secret: options.Secret, Annotations: options.Annotations}}
	for component := range strings.SplitSeq(list, ",") {
		component = strings.TrimSpace(component)
		f, err := r.function(ctx, h, component)
		switch {
		case err == nil:
			f.Options = options
			f.Web, f.Secret, f.Annotations, f.Main = "", "", nil, ""
			d.Functions = addFunction(d.Functions, f)
			seq.Components = append(seq.Components, f.Name)
		case actions.CodeOf(err) == actions.NotFound && !isFile(component):
			seq.Components = append(seq.Components, component) // an action that is there, or is not
		default:
			return err
		}
	}
	d.Sequences = append(d.Sequences, seq)
	return nil
}

// isFile says whether an argument means a path that is there, and not the name of a model
// or of an action.
func isFile(arg string) bool {
	if !strings.ContainsRune(arg, filepath.Separator) && !slices.Contains([]string{".py", ".zip", ".gz", ".tgz", ".yaml"}, filepath.Ext(arg)) {
		return false
	}
	_, err := os.Stat(arg)
	return err == nil || strings.HasPrefix(arg, ".") || strings.HasSuffix(arg, ".py")
}

// function makes of a model, by its name or by a path, what is deployed.
func (r *rollout) function(ctx context.Context, h *house, nameOrPath string) (deploy.Function, error) {
	m, err := h.catalog.Open(ctx, nameOrPath)
	if err != nil {
		return deploy.Function{}, err
	}
	settled, err := h.settle(ctx, m)
	if err != nil {
		return deploy.Function{}, err
	}
	f := deploy.Function{Name: m.Name, Model: m}
	if isFile(nameOrPath) {
		f.File = nameOrPath
		if f.Code, err = readCode(nameOrPath); err != nil {
			return f, err
		}
		f.Model.Dir = ""
	} else if m.Dir != "" && !r.isLocal() {
		_, _ = fmt.Fprintf(r.stderr, "deepfn: warning: %s is not part of deepfn: the image has to hold it; FROM %s, and RUN deepfn add, or COPY its folder and set DEEPFN_CATALOG\n",
			m.Name, defaultImage)
	}
	f.Memory, err = h.memoryOf(ctx, settled)
	return f, err
}

// isLocal says whether the platform is on this machine, and may have the models that are
// here.
func (r *rollout) isLocal() bool {
	host, _, err := r.platform.resolve()
	return err == nil && deploy.IsLocal(host)
}

// memoryOf is how many MiB a model is thought to need. Nothing is fetched to know that.
func (h *house) memoryOf(ctx context.Context, m actions.Model) (int, error) {
	var e deploy.Estimate
	var requirements []string
	switch {
	case m.Runtime == actions.Python:
		spec, err := launcher.ParseSpec(m.Spec)
		if err != nil {
			return 0, err
		}
		requirements = spec.Requirements
		e.Weights = deploy.WeightsIn(os.DirFS(m.Dir))
	case len(m.Files) > 0:
		here := catalog.New(catalog.Config{
			Shipped: actions.Shipped(), Dirs: []string{h.modules()}, CacheDir: h.cache, Offline: true, Log: h.log,
		})
		files, err := here.Fetch(ctx, m)
		e.Unknown = err != nil
		for _, file := range files {
			if info, err := os.Stat(file); err == nil {
				e.Weights += info.Size()
			}
		}
	case m.Dir != "":
		e.Weights = deploy.WeightsIn(os.DirFS(m.Dir))
	}
	added := m.Dir != "" && strings.HasPrefix(m.Dir, h.modules()+string(filepath.Separator))
	return e.Memory(m, requirements, added), nil
}

// readCode reads what is sent as an action's code: a file as it is, a folder as a zip.
func readCode(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, actions.Errorf(actions.NotFound, "code: %w", err)
	}
	if filepath.Base(path) == "action.yaml" {
		return zipFolder(filepath.Dir(path))
	}
	if info.IsDir() {
		return zipFolder(path)
	}
	if info.Size() > maxCode {
		return nil, tooMuchCode(path)
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file that the user named
	if err != nil {
		return nil, actions.Errorf(actions.NotFound, "code: %w", err)
	}
	return data, nil
}

func tooMuchCode(path string) error {
	return actions.Errorf(actions.TooLarge, "%s is more than the %d MiB of code that OpenWhisk takes: put the model into the image and deploy it "+
		"by its name, or have its weights fetched (files: {url, sha256} in its action.yaml)", path, maxCode>>20)
}

// zipFolder makes a zip of a folder, the same one for the same files. What begins with '.'
// and Python's caches are left out.
func zipFolder(dir string) ([]byte, error) {
	buf := bounded{limit: maxCode}
	w := zip.NewWriter(&buf)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") || d.Name() == "__pycache__" {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		return zipFile(w, dir, path, d)
	})
	if err == nil {
		err = w.Close()
	}
	if errors.Is(err, errFull) {
		err = tooMuchCode(dir)
	}
	if err != nil && actions.CodeOf(err) == actions.Internal {
		err = actions.Errorf(actions.NotFound, "code: %w", err)
	}
	return buf.data, err
}

// bounded is memory for so many bytes, and no more.
type bounded struct {
	data  []byte
	limit int
}

var errFull = errors.New("it is full")

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.limit-len(b.data) {
		return 0, errFull
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

func zipFile(w *zip.Writer, dir, path string, d fs.DirEntry) error {
	if !d.Type().IsRegular() {
		return actions.Errorf(actions.Invalid, "code: %s is no regular file; an archive of code has nothing else", path)
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	if info.Size() > 4*maxCode { // it would not be compressed enough
		return tooMuchCode(path)
	}
	header := &zip.FileHeader{Name: filepath.ToSlash(name), Method: zip.Deflate}
	header.SetMode(0o644 | info.Mode().Perm()&0o111)
	entry, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	f, err := os.Open(path) //nolint:gosec // of the folder that the user named
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, f)
	return errors.Join(err, f.Close())
}
