// Package environment makes Python environments: for the requirements of an action, in
// the cache, and for modules of the DEEPaaS catalog, which are installed and stay.
//
// # The cache
//
// CacheDir/envs/KEY is a virtual environment; KEY is a hash of the interpreter, the
// platform and the requirements. The file "ready" in it is written last, when all else is
// on the disk.
//
// # Installed modules
//
// A module is the folder Dir/NAME, an action like others:
//
//	action.yaml        written last; names the installation that counts
//	requirements.lock  what is installed in it, and for which Python
//	venv-N             the virtual environment of installation N
//	source-N/REPO      the module's source, which is installed in place
//	work-N             the working folder of a module that came without its source
//
// Modules are written to be cloned and installed in place: many find their weights beside
// their code. So a folder, an archive or a repository is copied to source-N, and that copy
// is installed editable ("pip install -e"); where the build system cannot do so, plainly.
// The copy is the working folder too. In the images of the catalog modules run in the
// folder above, so unless there is something of that name, REPO is also found in itself.
//
// The installation before the one that counts is kept, because a server may still run it.
package environment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/disk"
)

// Config says where environments are and how they are made.
type Config struct {
	// Dir holds the installed modules, Dir/NAME. Required for Add, Remove and List.
	Dir string
	// CacheDir holds the environments that Ensure makes. Required for Ensure.
	CacheDir string
	// Python is the interpreter that environments are made with. The default is "python3".
	Python string
	// Offline forbids the network: Ensure finds only what is there, and Add takes neither
	// remote repositories nor packages of an index.
	Offline bool
	// MaxSource is how many bytes the source of a module may have. The default is 8 GiB.
	MaxSource int64
	// Log takes what is made and why it is made again. Nil discards it.
	Log *slog.Logger
	// Output takes what pip, uv and git print. Nil discards it.
	Output io.Writer
}

// Environments makes and finds Python environments. Many may use it at once, also from
// several processes.
type Environments struct {
	cfg Config
	// sync writes a complete folder to the disk, before it counts. Tests put broken disks
	// here.
	sync func(dir string) error
}

// maxFiles is how many files the source of a module may have.
const maxFiles = 200_000

// New makes no folder yet. Relative paths are those of the working folder of now.
func New(cfg Config) *Environments {
	if cfg.Python == "" {
		cfg.Python = "python3"
	}
	if cfg.MaxSource <= 0 {
		cfg.MaxSource = 8 << 30
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Output == nil {
		cfg.Output = io.Discard
	}
	cfg.Output = &shared{w: cfg.Output}
	for _, dir := range []*string{&cfg.Dir, &cfg.CacheDir} {
		if *dir == "" {
			continue
		}
		if abs, err := filepath.Abs(*dir); err == nil { // no working folder: as it is
			*dir = abs
		}
	}
	return &Environments{cfg: cfg, sync: disk.Sync}
}

// Ensure returns the path of an interpreter that has the requirements, as pip writes them
// ("numpy==2.4.6"). Without any it is python itself, and "" stands for Config.Python. An
// environment is made once; who wants it meanwhile waits, also in other processes, and
// one whose maker was killed is made again.
//
// The error is Invalid for what is no requirement, Unavailable when the interpreter or a
// package cannot be had, with the last lines of pip, Canceled or Deadline.
func (e *Environments) Ensure(ctx context.Context, python string, requirements []string) (string, error) {
	interpreter, err := e.ensure(ctx, python, requirements)
	if err != nil {
		return "", coded(ctx, "environment", err)
	}
	return interpreter, nil
}

func (e *Environments) ensure(ctx context.Context, python string, requirements []string) (string, error) {
	python, err := e.interpreter(python)
	if err != nil {
		return "", err
	}
	requirements, err = cleaned(requirements)
	if err != nil || len(requirements) == 0 {
		return python, err
	}
	if e.cfg.CacheDir == "" {
		return "", errors.New("no folder is set for the cache")
	}
	about, err := e.ask(ctx, python)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(e.cfg.CacheDir, "envs", about.key(requirements))
	if isReady(dir) {
		return binary(dir), nil
	}
	if e.cfg.Offline {
		return "", actions.Errorf(actions.Unavailable, "%s: not in the cache (%s), and installing is switched off (offline); allow it, or give the action an interpreter that has them",
			strings.Join(requirements, " "), dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { // #nosec G301 -- workers of other users read it
		return "", err
	}
	lock, err := e.lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // and unlocks
	if isReady(dir) {                   // somebody else was faster
		return binary(dir), nil
	}
	if err := e.build(ctx, python, dir, requirements); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return binary(dir), nil
}

// build makes an environment in dir, whatever is there.
func (e *Environments) build(ctx context.Context, python, dir string, requirements []string) error {
	started := time.Now()
	if _, err := os.Lstat(dir); err == nil {
		e.cfg.Log.Warn("environment is made again, it was not whole", "path", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	e.cfg.Log.Info("making an environment", "path", dir, "requirements", strings.Join(requirements, " "))
	in, err := e.installer(ctx, python)
	if err != nil {
		return err
	}
	if err := in.venv(ctx, dir); err != nil {
		return err
	}
	if err := in.install(ctx, dir, append([]string{"--"}, requirements...)...); err != nil {
		return err
	}
	if err := e.sync(dir); err != nil {
		return err
	}
	e.cfg.Log.Info("environment made", "path", dir, "seconds", time.Since(started).Seconds())
	return disk.WriteFile(filepath.Join(dir, "ready"), nil, 0o644)
}

// isReady reports whether an environment was made to its end and its interpreter is still
// there.
func isReady(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "ready")); err != nil {
		return false
	}
	_, err := os.Stat(binary(dir)) // it is a link to the one that it was made with
	return err == nil
}

// binary is the interpreter of a virtual environment.
func binary(dir string) string { return filepath.Join(dir, "bin", "python") }

// cleaned checks requirements and puts them in order, so that the same ones are the same
// environment.
func cleaned(requirements []string) ([]string, error) {
	kept := make([]string, 0, len(requirements))
	for _, r := range requirements {
		r = strings.TrimSpace(r)
		if r == "" || r[0] == '-' || strings.ContainsAny(r, "\n\r\x00") {
			return nil, actions.Errorf(actions.Invalid, "%.100q is not a requirement, such as numpy==2.4.6", r)
		}
		kept = append(kept, r)
	}
	slices.Sort(kept)
	return slices.Compact(kept), nil
}

// An interpreterInfo is what an interpreter says of itself.
type interpreterInfo struct {
	Version        string `json:"version"` // 3.11.7
	Implementation string `json:"implementation"`
	Platform       string `json:"platform"`
	Path           string `json:"path"` // without links
}

// whoAreYou asks an interpreter.
const whoAreYou = `
import json, os, platform, sys, sysconfig
json.dump({"version": platform.python_version(), "implementation": platform.python_implementation(),
    "platform": sysconfig.get_platform(), "path": os.path.realpath(sys.executable)}, sys.stdout)
`

// ask asks an interpreter what it is.
func (e *Environments) ask(ctx context.Context, python string) (interpreterInfo, error) {
	var info interpreterInfo
	out, err := query(ctx, python, "-I", "-c", whoAreYou)
	if err == nil {
		err = json.Unmarshal(out, &info)
	}
	if err != nil {
		return info, fmt.Errorf("%s is not a Python 3 interpreter that works: %w", python, err)
	}
	return info, nil
}

// key names the environment of an interpreter with requirements.
func (i interpreterInfo) key(requirements []string) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]any{i, requirements}) // strings have a JSON form, a hash takes all
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// lock waits until it has the lock file for itself.
func (e *Environments) lock(ctx context.Context, name string) (*os.File, error) {
	return disk.Lock(ctx, name, func() { e.cfg.Log.Info("waiting for another installation", "path", name) })
}

// coded gives an error its code, unless it has one, and says what it was about.
func coded(ctx context.Context, what string, err error) error {
	switch known, ok := errors.AsType[*actions.Error](err); {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return actions.Errorf(actions.Deadline, "%s: %w", what, errors.Join(ctx.Err(), err))
	case ctx.Err() != nil:
		return actions.Errorf(actions.Canceled, "%s: %w", what, errors.Join(ctx.Err(), err))
	case ok:
		return &actions.Error{Code: known.Code, Msg: what + ": " + err.Error(), Fields: known.Fields, Logs: known.Logs, Err: err}
	case errors.Is(err, syscall.ENOSPC):
		return actions.Errorf(actions.Unavailable, "%s: %w; make room, or choose other folders", what, err)
	}
	return actions.Errorf(actions.Unavailable, "%s: %w", what, err)
}
