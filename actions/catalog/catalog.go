package catalog

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/archive"
	"github.com/deepfn/deepfn/actions/disk"
)

// actionFile is the file that makes a folder an action.
const actionFile = "action.yaml"

// Config says where models and their files are. CacheDir is required for models whose
// files are not in their folder.
type Config struct {
	// Shipped holds the built-in actions, NAME/action.yaml. Nil means none.
	Shipped fs.FS
	// Dirs are folders of actions, DIR/NAME/action.yaml. A model in an earlier one
	// hides its namesakes in later ones, and all of them hide Shipped.
	Dirs []string
	// CacheDir is where fetched files are kept.
	CacheDir string
	// Python is the interpreter that fetches Python packages, with its pip and the
	// user's pip configuration. The default is "python3".
	Python string
	// Offline forbids all fetching: what is not in the cache is an error.
	Offline bool
	// Unpack bounds what an archive may become: code that Import is given, or a file that
	// Open is. The default is that of package archive.
	Unpack archive.Limits
	// MaxFile is how many bytes a fetched file may have. The default is 8 GiB.
	MaxFile int64
	// Log takes what is fetched and which actions are broken. Nil discards it.
	Log *slog.Logger
	// HTTPClient fetches URLs. Nil means one that gives up on a server that does not
	// connect or answer. Redirects are decided here in any case.
	HTTPClient *http.Client
}

// A Catalog knows the models. Many may use it at once. What it returns is shared and
// must not be changed.
type Catalog struct {
	cfg       Config
	libraries map[string]library // by GOOS/GOARCH
	stallTime time.Duration
	// publish gives a complete folder its name. Tests put broken disks here.
	publish func(dir, to string) error

	mu       sync.Mutex // guards what follows
	readings map[string]reading
	broken   map[string]string // path of an action: the error that was logged
	imported map[string]actions.Model
}

// A reading is what an action.yaml held when it had that size and time.
type reading struct {
	size  int64
	mtime time.Time
	model actions.Model
	err   error
}

// New makes a catalog. It reads nothing yet.
func New(cfg Config) *Catalog {
	if cfg.Python == "" {
		cfg.Python = "python3"
	}
	if strings.ContainsRune(cfg.Python, filepath.Separator) {
		if abs, err := filepath.Abs(cfg.Python); err == nil { // it may run in another folder
			cfg.Python = abs
		}
	}
	if cfg.MaxFile <= 0 {
		cfg.MaxFile = 8 << 30
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.HTTPClient = httpsOnly(cfg.HTTPClient)
	return &Catalog{
		cfg:       cfg,
		libraries: libraries(),
		stallTime: stallTime,
		publish:   disk.Publish,
		readings:  make(map[string]reading),
		broken:    make(map[string]string),
		imported:  make(map[string]actions.Model),
	}
}

// Models returns all models, sorted by name. A broken action is left out and logged,
// once for each way in which it is broken, so that one bad folder does not hide the
// others; Model tells what is wrong with it. The error is that of ctx.
func (c *Catalog) Models(ctx context.Context) ([]actions.Model, error) {
	var models []actions.Model
	for _, name := range c.names() {
		if err := ctx.Err(); err != nil {
			return nil, ctxError(ctx, "models", err)
		}
		m, err := c.Model(ctx, name)
		if err != nil {
			c.logBroken(name, err)
			continue
		}
		models = append(models, m)
	}
	return models, nil
}

// names returns the name of every folder that holds an action.yaml, and of what was
// imported, sorted.
func (c *Catalog) names() []string {
	names := make(map[string]bool)
	c.mu.Lock()
	for name := range c.imported {
		names[name] = true
	}
	c.mu.Unlock()
	add := func(dir string, fsys fs.FS) {
		entries, err := fs.ReadDir(fsys, ".")
		if err != nil {
			c.logBroken(dir, err)
		}
		for _, e := range entries {
			if _, err := fs.Stat(fsys, e.Name()+"/"+actionFile); err == nil {
				names[e.Name()] = true
			}
		}
	}
	for _, dir := range c.cfg.Dirs {
		add(dir, os.DirFS(dir))
	}
	if c.cfg.Shipped != nil {
		add("shipped", c.cfg.Shipped)
	}
	return slices.Sorted(maps.Keys(names))
}

// logBroken logs the error of an action or a folder unless it was the last one there.
func (c *Catalog) logBroken(where string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if msg := err.Error(); c.broken[where] != msg {
		c.broken[where] = msg
		c.cfg.Log.Warn("action is broken", "action", where, "error", msg)
	}
}

// Model returns the model of that name, an imported one first. Names come from
// requests, so a path is no name here; see Open. The error is NotFound, which lists what there is, or Invalid
// when the model's action.yaml is wrong.
func (c *Catalog) Model(ctx context.Context, name string) (actions.Model, error) {
	if err := ctx.Err(); err != nil {
		return actions.Model{}, ctxError(ctx, "model "+name, err)
	}
	if (actions.Model{Name: name, Runtime: "any"}).Validate() != nil {
		return actions.Model{}, actions.Errorf(actions.NotFound, "%.80q is not a name that a model can have", name)
	}
	c.mu.Lock()
	m, ok := c.imported[name]
	c.mu.Unlock()
	if ok {
		return m, nil
	}
	for _, dir := range c.cfg.Dirs {
		m, err := c.readFile(filepath.Join(dir, name, actionFile), name, "")
		if !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
	}
	if c.cfg.Shipped != nil {
		m, err := c.read(c.cfg.Shipped, name+"/"+actionFile, "shipped/"+name+"/"+actionFile, name, "")
		if !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
	}
	there := "there are none"
	if names := c.names(); len(names) > 0 {
		there = "there are: " + strings.Join(names, ", ")
	}
	return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %.80q; %s", name, there)
}

// readFile reads an action.yaml on disk. A wanted name must be the model's; one that does
// not say its name has the fallback, or that of its folder.
func (c *Catalog) readFile(file, want, fallback string) (actions.Model, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Internal, "model %s: %w", want, err)
	}
	dir, base := filepath.Split(file)
	m, err := c.read(os.DirFS(dir), base, file, want, fallback)
	if err != nil {
		return actions.Model{}, err
	}
	m.Dir = filepath.Clean(dir)
	return m, nil
}

// read reads an action.yaml, or remembers it when it has not changed: a model is looked
// up for every request. The error matches fs.ErrNotExist when there is none.
func (c *Catalog) read(fsys fs.FS, name, shown, want, fallback string) (actions.Model, error) {
	info, err := fs.Stat(fsys, name)
	if errors.Is(err, syscall.ENOTDIR) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Unavailable, "%s: %w", shown, err)
	}
	if !info.Mode().IsRegular() { // a pipe would block
		return actions.Model{}, actions.Errorf(actions.Invalid, "%s is not a file", shown)
	}
	key := shown
	if fallback != "" { // the name is a part of what is remembered
		key += "\x00" + fallback
	}
	c.mu.Lock()
	r, ok := c.readings[key]
	c.mu.Unlock()
	if !ok || r.size != info.Size() || !r.mtime.Equal(info.ModTime()) {
		r = reading{size: info.Size(), mtime: info.ModTime()}
		r.model, r.err = readAction(fsys, name, shown, fallback)
		c.mu.Lock()
		c.readings[key] = r
		c.mu.Unlock()
	}
	if r.err == nil && want != "" && r.model.Name != want {
		return actions.Model{}, actions.Errorf(actions.Invalid, "%s: name %s must be that of the folder, %s", shown, r.model.Name, want)
	}
	return r.model, r.err
}

// forget forgets the actions below a folder that does not stay.
func (c *Catalog) forget(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.readings, func(key string, _ reading) bool {
		return strings.HasPrefix(key, dir+string(filepath.Separator))
	})
}

// readAction reads and checks one action.yaml. Without a name the model has the
// fallback, else that of its folder.
func readAction(fsys fs.FS, name, shown, fallback string) (actions.Model, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Unavailable, "%s: %w", shown, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxAction+1))
	if err != nil {
		return actions.Model{}, actions.Errorf(actions.Invalid, "%s: %w", shown, err)
	}
	m, err := parseAction(shown, data)
	if err != nil {
		return actions.Model{}, err
	}
	if m.Name == "" {
		m.Name = cmp.Or(fallback, filepath.Base(filepath.Dir(shown)))
	}
	if err := m.Validate(); err != nil {
		return actions.Model{}, actions.Errorf(actions.Invalid, "%s: %w", shown, err)
	}
	return m, nil
}
