// Package disk writes files and folders that others read at the same time: each is there
// as a whole or not at all, also after the power has failed, and whoever makes one keeps
// other processes away with a lock.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile writes a file with these permissions, whatever the umask, or replaces it. Its
// folder must exist. With an error the file is as it was.
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	return Write(name, filepath.Dir(name), perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write is WriteFile with what fill writes, in parts, which are put into the folder temp
// of the same file system meanwhile.
func Write(name, temp string, perm fs.FileMode, fill func(io.Writer) error) error {
	return write(name, temp, perm, fill, (*os.File).Sync)
}

func write(name, temp string, perm fs.FileMode, fill func(io.Writer) error, sync func(*os.File) error) error {
	f, err := os.CreateTemp(temp, ".*.part")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	if err = fill(f); err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = sync(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return err
	}
	return syncPath(filepath.Dir(name), sync)
}

// Publish gives the folder dir, which is complete, the name to in the same file system.
// What has that name is whole from then on, and there must be nothing before.
func Publish(dir, to string) error {
	return publish(dir, to, (*os.File).Sync)
}

func publish(dir, to string, sync func(*os.File) error) error {
	if err := syncTree(dir, sync, unix.Syncfs); err != nil {
		return err
	}
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return syncPath(filepath.Dir(to), sync)
}

// Sync writes a folder and all that is in it to the disk: to be called before something
// says that it is complete.
func Sync(dir string) error {
	return syncTree(dir, (*os.File).Sync, unix.Syncfs)
}

// manyFiles is from how many files and folders on the whole file system is written, which
// takes one wait for the disk and not one for each.
const manyFiles = 100

func syncTree(dir string, sync func(*os.File) error, syncAll func(fd int) error) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && len(paths) > manyFiles {
			return fs.SkipAll
		}
		if err == nil && (entry.IsDir() || entry.Type().IsRegular()) { // links are in their folder
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(paths) > manyFiles {
		return syncPath(dir, func(f *os.File) error {
			return os.NewSyscallError("syncfs", syncAll(int(f.Fd())))
		})
	}
	for _, path := range paths {
		if err := syncPath(path, sync); err != nil {
			return err
		}
	}
	return nil
}

// syncPath writes a file, or the names in a folder, to the disk. A file system that cannot
// do so for folders does it by itself.
func syncPath(path string, sync func(*os.File) error) error {
	f, err := os.Open(path) // #nosec G304 -- a path that the caller has made
	if err != nil {
		return err
	}
	err = sync(f)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
