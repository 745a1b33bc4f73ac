// Package readahead has the kernel read the weights of a model into the page cache while
// its program starts, and knows whether they were there before.
package readahead

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/deepfn/deepfn/actions"
)

const (
	// chunk is how many bytes the kernel is asked for at a time. It cuts off what is over
	// its own window for reading ahead, of which this is the default.
	chunk = 128 << 10
	// enough is the share of the weights in the page cache with which a start is one from
	// there: the rest is read as fast as it is used.
	enough = 0.9
)

// A Reading is the weights of a model on their way into the page cache. Its methods may be
// called by many at the same time.
type Reading struct {
	stop     context.CancelFunc
	measured chan struct{} // closed when the next three are set
	total    int64
	cached   int64
	err      error
	done     chan struct{} // closed when the goroutine has ended
}

// Start begins to read ahead and returns at once. A path that is a file counts whatever it
// is; one that is a folder is searched for weights: regular files, also behind links, of at
// least 1 MiB whose names end as those of weights do. Of what there is at most half of the
// memory that is available is read. What cannot be looked at is left out. Close ends it.
func Start(paths ...string) *Reading { return start(system(), paths) }

func start(k kernel, paths []string) *Reading {
	ctx, stop := context.WithCancel(context.Background())
	r := &Reading{stop: stop, measured: make(chan struct{}), done: make(chan struct{})}
	// The goroutine ends when all was asked for, or soon after Close.
	go r.run(ctx, k, paths)
	return r
}

// Origin says from where a start reads the weights: TierCache if nearly all of them were in
// the page cache before, else TierDisk, also if there are none or nobody knows. It waits until
// that is known, which takes milliseconds.
func (r *Reading) Origin() actions.Tier {
	if r.Cached() >= enough {
		return actions.TierCache
	}
	return actions.TierDisk
}

// Cached returns which share of the weights was in the page cache before, 0 to 1. It waits as
// Origin does.
func (r *Reading) Cached() float64 {
	<-r.measured
	if r.total == 0 {
		return 0
	}
	return float64(r.cached) / float64(r.total)
}

// Bytes returns how large the weights are. It waits as Origin does.
func (r *Reading) Bytes() int64 {
	<-r.measured
	return r.total
}

// Err returns why a file or folder was left out, or nil. It waits as Origin does.
func (r *Reading) Err() error {
	<-r.measured
	return r.err
}

// Done returns a channel that is closed when all was asked for.
func (r *Reading) Done() <-chan struct{} { return r.done }

// Close has no more read and waits for the goroutine. What was asked for the kernel may go on
// to read. It may be called more than once.
func (r *Reading) Close() {
	r.stop()
	<-r.done
}

// run looks for the files, measures them, and then has them read.
func (r *Reading) run(ctx context.Context, k kernel, paths []string) {
	defer close(r.done)
	files, err := find(paths)
	for i := range files {
		f := &files[i]
		if ctx.Err() == nil {
			f.cached, f.err = k.measure(f.path, f.size)
			err = errors.Join(err, f.err)
		}
		r.total += f.size
		r.cached += f.cached
	}
	r.err = err
	close(r.measured)
	left := k.available() / 2
	for _, f := range files {
		if f.cached < f.size && f.err == nil && left > 0 {
			left -= k.readFile(ctx, f.path, min(f.size, left))
		}
	}
}

// measure returns how many bytes of a file are in the page cache. Where the kernel does not
// say, as of files of others, that is none.
func (k kernel) measure(path string, size int64) (int64, error) {
	file, err := os.Open(path) //nolint:gosec // a path of the model's
	if err != nil {
		return 0, fmt.Errorf("readahead: %w", err)
	}
	defer func() { _ = file.Close() }()
	return min(k.cached(file, size), size), nil
}

// readFile asks for the first size bytes of a file and returns for how many it has asked. A
// file that has gone was one that nobody will load.
func (k kernel) readFile(ctx context.Context, path string, size int64) int64 {
	file, err := os.Open(path) //nolint:gosec // a path of the model's
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	for at := int64(0); at < size; at += chunk {
		// The kernel takes its time when the disk is busy.
		if ctx.Err() != nil || k.advise(file, at, min(chunk, size-at)) != nil {
			return at
		}
	}
	return size
}
