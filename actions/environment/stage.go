package environment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/deepfn/deepfn/actions/disk"
)

// stagePrefix begins the name of a folder with a source whose place is not known yet.
const stagePrefix = ".source-"

// stage brings the source where nobody looks for it.
func (a *adding) stage(ctx context.Context) error {
	if a.src.kind == sourceWheel {
		return nil
	}
	a.stagedRepo = a.src.from
	if !a.options.Editable {
		var err error
		if err = a.lockStage(ctx); err != nil {
			return err
		}
		if a.staged, err = os.MkdirTemp(a.e.cfg.Dir, stagePrefix+"*"); err != nil {
			return err
		}
		if err := os.Chmod(a.staged, 0o755); err != nil { // #nosec G302 -- workers of other users read it
			return err
		}
		if a.stagedRepo, err = a.e.bring(ctx, a.src, a.staged); err != nil {
			return err
		}
		if err := hideLogins(a.staged); err != nil {
			return err
		}
	}
	if !isProject(a.stagedRepo) && !exists(a.stagedRepo, "api.py") {
		return noProject(a.src, a.shown, a.stagedRepo)
	}
	return nil
}

// lockStage keeps others from removing the folder that is staged next, and removes those
// that were left by processes which were killed.
func (a *adding) lockStage(ctx context.Context) error {
	dir := a.e.cfg.Dir
	name := filepath.Join(dir, ".locks", ".source")
	alone, err := disk.TryLock(name)
	if err != nil {
		return err
	}
	if alone != nil { // nobody lives who has one
		entries, err := os.ReadDir(dir)
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), stagePrefix) {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
			}
		}
		if err != nil {
			a.e.cfg.Log.Warn("sources of earlier installations are left", "path", dir, "error", err)
		}
		if err := alone.Close(); err != nil {
			return err
		}
	}
	a.staging, err = disk.LockShared(ctx, name, nil)
	return err
}

// unlockStage says that there is no staged folder any more.
func (a *adding) unlockStage() error {
	if a.staging == nil {
		return nil
	}
	err := a.staging.Close() // and unlocks
	a.staging = nil
	return err
}
