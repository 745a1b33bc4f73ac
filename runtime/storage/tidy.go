package storage

import (
	"context"
	"os"
	"path"

	"github.com/deepfn/deepfn/actions"
)

// Tidy removes what is no object below a prefix, a URL that ends in "/": files that processes were
// writing when they were killed, and folders that are empty. Nobody puts anything there at the
// same time. Other stores than folders have none of that. The errors are those of Stat.
func (s *Storage) Tidy(ctx context.Context, prefix string) error {
	l, k, err := s.folder(prefix)
	if err != nil {
		return err
	}
	f, ok := k.(*folders)
	if !ok {
		return nil
	}
	err = s.within(ctx, l, func(ctx context.Context, _ *watch) error { return f.tidy(ctx, l) })
	if actions.CodeOf(err) == actions.NotFound {
		return nil
	}
	return err
}

func (f *folders) tidy(ctx context.Context, l location) error {
	return f.within(l, func(root *os.Root, name string) error { return tidyFolder(ctx, root, name) })
}

// tidyFolder tidies what is below a folder, which stays.
func tidyFolder(ctx context.Context, root *os.Root, name string) error {
	w := walk{root: root}
	entries, err := w.entries(name)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		below := path.Join(name, entry.Name())
		switch {
		case entry.IsDir():
			if err := tidyFolder(ctx, root, below); err != nil {
				return err
			}
			_ = root.Remove(below) // unless there is something in it
		case isTemporary(entry.Name()):
			removeOld(root, below, 0)
		}
	}
	return nil
}
