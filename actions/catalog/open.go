package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/archive"
)

// The files that make a folder something that can be served.
const (
	execFile = "exec"        // an executable that speaks OpenWhisk's protocol
	mainFile = "__main__.py" // a plain Python function
	apiFile  = "api.py"      // a DEEPaaS module that needs no installation
)

// whatThereMayBe ends the error about a path that cannot be served.
const whatThereMayBe = "an action is a folder with a file action.yaml, exec, __main__.py or api.py, " +
	"a .py file, an executable, or a .zip or .tar.gz of such a folder"

// Open returns the model that a person named on a command line: by its name or, when
// there is a separator in it ("./cats") or it ends like a file of one, by a path:
//
//   - of an action.yaml, or of its folder
//   - of a folder with exec (an executable), __main__.py (a Python function) or api.py (a
//     DEEPaaS module), of which the first that is there counts
//   - of a .py file or of an executable
//   - of a .zip or .tar.gz, which is unpacked in the cache and then taken as a folder; of
//     a single folder in it the inside is taken
//
// The source of a DEEPaaS module, which must be installed first, is Invalid. Other errors
// are those of Model.
func (c *Catalog) Open(ctx context.Context, nameOrPath string) (actions.Model, error) {
	if !isPath(nameOrPath) {
		m, err := c.Model(ctx, nameOrPath)
		if info, statErr := os.Stat(nameOrPath); statErr == nil && actions.CodeOf(err) == actions.NotFound {
			what := "file"
			if info.IsDir() {
				what = "folder"
			}
			return m, actions.Errorf(actions.NotFound, "%w; for the %s write .%c%s", err, what, filepath.Separator, nameOrPath)
		}
		return m, err
	}
	if err := ctx.Err(); err != nil {
		return actions.Model{}, ctxError(ctx, "model "+nameOrPath, err)
	}
	info, err := os.Stat(nameOrPath)
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.NotFound, "model: %w; %s", err, whatThereMayBe)
	}
	path, err := filepath.Abs(nameOrPath)
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Internal, "model %s: %w", nameOrPath, err)
	}
	if info.IsDir() {
		return c.openFolder(path, folder{shown: nameOrPath, name: filepath.Base(path)})
	}
	return c.openFile(ctx, path, nameOrPath, info)
}

// isPath reports whether a person means a path, not the name of a model.
func isPath(s string) bool {
	if strings.ContainsRune(s, filepath.Separator) || s == "." || s == ".." {
		return true
	}
	for _, suffix := range []string{".yaml", ".py", ".zip", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(s, suffix) {
			return true
		}
	}
	return false
}

// A folder is what is known of one beside its path.
type folder struct {
	shown string // its name in messages
	name  string // what its model is called unless the action says so; made valid
	main  string // the Python function that is wanted, or ""
	ours  bool   // it is in the cache, and may be changed
}

// openFolder finds out what a folder holds.
func (c *Catalog) openFolder(dir string, f folder) (actions.Model, error) {
	has := func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err == nil && info.Mode().IsRegular()
	}
	if _, err := os.Lstat(filepath.Join(dir, actionFile)); err == nil {
		fallback := ""
		if f.ours { // the folder has no name that anybody chose
			fallback = modelName(f.name)
		}
		return c.readFile(filepath.Join(dir, actionFile), "", fallback)
	}
	switch {
	case has(execFile):
		return executable(dir, execFile, f)
	case has(mainFile):
		return pythonFile(dir, mainFile, f.main, f.name)
	case isModuleSource(dir):
		return actions.Model{}, actions.Errorf(actions.Invalid,
			"%s is the source of a DEEPaaS module, which is installed first: deepfn add %s", f.shown, f.shown)
	case has(apiFile):
		return pythonFile(dir, apiFile, f.main, f.name)
	}
	return actions.Model{}, actions.Errorf(actions.NotFound, "there is nothing to serve in %s; %s", f.shown, whatThereMayBe)
}

// openFile finds out what a file is.
func (c *Catalog) openFile(ctx context.Context, path, shown string, info fs.FileInfo) (actions.Model, error) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	if !info.Mode().IsRegular() { // a pipe would block
		return actions.Model{}, actions.Errorf(actions.Invalid, "model: %s is neither a file nor a folder", shown)
	}
	switch filepath.Ext(base) {
	case ".yaml":
		return c.readFile(path, "", "")
	case ".py":
		if base == mainFile {
			stem = filepath.Base(dir)
		}
		return pythonFile(dir, base, "", stem)
	}
	head, err := readHead(path)
	switch {
	case err != nil:
		return actions.Model{}, actions.Errorf(actions.NotFound, "model: %w", err)
	case archive.Sniff(head) != "":
		return c.openArchive(ctx, path, folder{shown: shown, name: strings.TrimSuffix(stem, ".tar"), ours: true})
	case isProgram(head):
		return executable(dir, base, folder{shown: dir, name: stem})
	}
	return actions.Model{}, actions.Errorf(actions.NotFound, "model: %s is nothing that can be served; %s", shown, whatThereMayBe)
}

// readHead returns the first bytes of a file.
func readHead(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- who runs the command names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:n], nil
}

// isProgram reports whether a file that begins so can be executed.
func isProgram(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x7fELF")) || bytes.HasPrefix(head, []byte("#!"))
}

// openArchive unpacks an archive of a person into the cache, and opens that.
func (c *Catalog) openArchive(ctx context.Context, path string, f folder) (actions.Model, error) {
	file, err := os.Open(path) // #nosec G304 -- who runs the command names it
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.NotFound, "model: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	h := sha256.New()
	size, err := io.Copy(h, file)
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Unavailable, "model %s: %w", f.shown, err)
	}
	key := hex.EncodeToString(h.Sum(nil)) + "-archive"
	m, err := c.openUnpacked(ctx, key, io.NewSectionReader(file, 0, size), archive.Top, f)
	if err != nil {
		return m, codeError(ctx, "model "+f.shown, err)
	}
	return m, nil
}

// openUnpacked unpacks an archive into the cache unless it is there, and opens what top
// says is its folder. An archive that holds no model is not kept.
func (c *Catalog) openUnpacked(ctx context.Context, key string, r *io.SectionReader, top func(string) (string, error), f folder) (actions.Model, error) {
	open := func(dir string) (actions.Model, error) {
		dir, err := top(dir)
		if err != nil {
			return actions.Model{}, err
		}
		return c.openFolder(dir, f)
	}
	dir, err := c.keepCode(ctx, key, func(dir string) error {
		err := archive.Unpack(ctx, r, r.Size(), dir, c.cfg.Unpack)
		if err == nil {
			_, err = open(dir)
			c.forget(dir) // it gets another name
		}
		return err
	})
	if err != nil {
		return actions.Model{}, err
	}
	return open(dir)
}

// pythonFile is the model of a Python file, with a function's name or "".
func pythonFile(dir, base, main, name string) (actions.Model, error) {
	spec := struct {
		Path string `json:"path"`
		Main string `json:"main,omitempty"`
	}{base, main}
	return plain(actions.Python, dir, name, spec)
}

// executable is the model of a program.
func executable(dir, base string, f folder) (actions.Model, error) {
	path := filepath.Join(dir, base)
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o111 == 0 {
		if !f.ours {
			return actions.Model{}, actions.Errorf(actions.Invalid, "model: %s may not be executed: chmod +x %s", path, path)
		}
		err = os.Chmod(path, 0o755) // #nosec G302 -- it is a program
	}
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Unavailable, "model: %w", err)
	}
	spec := struct {
		Path string `json:"path"`
	}{base}
	return plain(actions.Executable, dir, f.name, spec)
}

// plain is a model without an action.yaml.
func plain(runtime, dir, name string, spec any) (actions.Model, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Internal, "model %s: %w", name, err)
	}
	m := actions.Model{Name: modelName(name), Runtime: runtime, Spec: raw, Dir: dir}
	return m, m.Validate()
}

// modelName makes a name that a model can have of any text.
func modelName(s string) string { return actions.ModelName(s, "function") }

// declaresModule finds the group of entry points in the files of a Python project. In a
// setup.py it may be an argument, a dictionary or a text.
var declaresModule = regexp.MustCompile(`(?m)^[^#\n]*deepaas\.v2\.model`)

// isModuleSource reports whether dir is the source of a DEEPaaS module.
func isModuleSource(dir string) bool {
	for _, name := range []string{"pyproject.toml", "setup.cfg", "setup.py"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxAction {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, name)) // #nosec G304 -- a fixed name in the folder of the action
		if err == nil && declaresModule.Match(data) {
			return true
		}
	}
	return false
}

// codeError gives an error of unpacking its code and says what it was about.
func codeError(ctx context.Context, what string, err error) error {
	if known, ok := errors.AsType[*actions.Error](err); ok {
		return &actions.Error{Code: known.Code, Msg: fmt.Sprintf("%s: %s", what, known.Msg), Err: err}
	}
	return fetchError(ctx, what, err)
}
