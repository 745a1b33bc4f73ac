package batch

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

const (
	defaultChunkRows  = 10_000
	defaultChunkFiles = 64
	defaultChunkBytes = 8 << 20
	maxChunkRows      = 1_000_000
	maxChunkBytes     = 256 << 20
	defaultRetries    = 5
	maxConcurrency    = 10_000
)

// Check says what is wrong with a batch, as far as that can be seen in moments: its members, its
// model, and whether there is an input. It reads nothing of the input. The error is Invalid,
// NotFound, Forbidden or Unsupported, or Unavailable if the store is.
func (e *Engine) Check(ctx context.Context, b actions.Batch) error {
	if err := e.mayRun(b); err != nil {
		return err
	}
	m, err := e.cfg.Model(ctx, b.Model)
	if err != nil {
		return err
	}
	if b.Batching.Vectorised() && b.Batching.Size == 1 {
		return actions.Errorf(actions.Invalid, "batching: a size of 1 and a list of rows are no batch of %s; leave one of them out", m.Name)
	}
	if strings.HasSuffix(b.Input.URL, "/") {
		for _, err := range e.cfg.Store.List(ctx, b.Input.URL) {
			return err
		}
		return actions.Errorf(actions.NotFound, "there is nothing below %s", b.Input.URL)
	}
	_, err = e.cfg.Store.Stat(ctx, b.Input.URL)
	return err
}

// mayRun checks what can be seen without asking anybody.
func (e *Engine) mayRun(b actions.Batch) error {
	if b.Through != "" && e.cfg.Dispatch == nil {
		return actions.Errorf(actions.Unsupported, "this program hands out no chunks (through)")
	}
	return check(b)
}

// check checks the members of a batch.
func check(b actions.Batch) error {
	_, err := parseThreshold(b.MaxErrors)
	switch {
	case b.Model == "":
		return actions.Errorf(actions.Invalid, "a batch needs a model")
	case b.Input.URL == "":
		return actions.Errorf(actions.Invalid, "a batch needs an input: the URL of an object, or of a prefix that ends in a slash")
	case !strings.HasSuffix(b.Output.URL, "/"):
		return actions.Errorf(actions.Invalid, "a batch needs an output: a URL that ends in a slash, below which nothing else is; got %.200q", b.Output.URL)
	case isBelow(b.Output.URL, b.Input.URL):
		return actions.Errorf(actions.Invalid, "the output %s is below the input, so that a second run would read it; choose another", b.Output.URL)
	case !knownFormat(b.Input.Format) || !knownFormat(b.Output.Format):
		return actions.Errorf(actions.Invalid, "a format is one of %s", strings.Join(formats(), ", "))
	case b.ChunkRows < 0 || b.ChunkRows > maxChunkRows:
		return actions.Errorf(actions.Invalid, "chunk_rows is 1 to %d", maxChunkRows)
	case b.ChunkBytes < 0 || b.ChunkBytes > maxChunkBytes:
		return actions.Errorf(actions.Invalid, "chunk_bytes is 1 to %d", maxChunkBytes)
	case b.Concurrency < 0 || b.Concurrency > maxConcurrency:
		return actions.Errorf(actions.Invalid, "concurrency is 1 to %d", maxConcurrency)
	case b.Batching.Size < 0 || b.Batching.Size > maxChunkRows:
		return actions.Errorf(actions.Invalid, "batching: size is 1 to %d", maxChunkRows)
	case b.Batching.Argument != "" && b.Batching.Columns:
		return actions.Errorf(actions.Invalid, "batching has an argument or columns, not both")
	case err != nil:
		return err
	}
	if err := checkURLs(b); err != nil {
		return err
	}
	if err := rows.CheckInput(b.Input); err != nil {
		return err
	}
	return rows.Check(b.Output)
}

// isBelow says whether what is below one URL is also below another, however they are written.
func isBelow(text, prefix string) bool {
	a, err := url.Parse(text)
	if err != nil {
		return false // as checkURLs says
	}
	b, err := url.Parse(prefix)
	if err != nil || !strings.HasSuffix(b.Path, "/") {
		return false
	}
	plain := func(u *url.URL) string { return strings.TrimSuffix(path.Clean("/"+u.Path), "/") + "/" }
	return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) && strings.HasPrefix(plain(a), plain(b))
}

func formats() []string {
	return []string{actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip, actions.Objects}
}

func knownFormat(name string) bool {
	return name == "" || slices.Contains(formats(), name)
}

func checkURLs(b actions.Batch) error {
	for what, text := range map[string]string{"input": b.Input.URL, "output": b.Output.URL} {
		if u, err := url.Parse(text); err != nil || u.Scheme == "" {
			return actions.Errorf(actions.Invalid, "the %s is no URL: it begins with file://, s3://, gs:// or azblob://", what)
		} else if what == "output" && (u.Scheme == "https" || u.Scheme == "http") {
			return actions.Errorf(actions.Unsupported, "there is no output to %s: it begins with file://, s3://, gs:// or azblob://", u.Scheme)
		}
	}
	return nil
}

// settle fills in the defaults of a batch that decide about its output, which are known when
// its input is open.
func settle(b actions.Batch, m actions.Model, s *rows.Source) actions.Batch {
	b.Input.Format = s.Format()
	if b.Output.Format == "" {
		b.Output.Format = actions.NDJSON
	}
	if b.ChunkRows == 0 {
		b.ChunkRows = defaultChunkRows
		if ofFiles(b.Input.Format) {
			b.ChunkRows = defaultChunkFiles
		}
	}
	if b.ChunkBytes == 0 {
		b.ChunkBytes = defaultChunkBytes
	}
	switch size := b.Batching.Size; {
	case b.Batching == (actions.Batching{}):
		b.Batching = m.Batching
	case size > 1 && b.Batching == (actions.Batching{Size: size}) && m.Batching.Vectorised(): // as the model takes them
		b.Batching = m.Batching
		b.Batching.Size = size
	}
	return b
}

// ofFiles says whether the rows of a format are files.
func ofFiles(format string) bool {
	return format == actions.Tar || format == actions.Zip || format == actions.Objects
}

// A threshold is how many rows may fail.
type threshold struct {
	rows  int64   // -1: any number
	share float64 // of all; 0: rows counts
}

// parseThreshold reads MaxErrors.
func parseThreshold(text string) (threshold, error) {
	if text == "" {
		return threshold{rows: -1}, nil
	}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		share, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(share) || share < 0 || share > 100 {
			return threshold{}, actions.Errorf(actions.Invalid, "max_errors: %.100q is no part; want 0%% to 100%%", text)
		}
		if share == 0 {
			return threshold{}, nil
		}
		return threshold{share: share / 100}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return threshold{}, actions.Errorf(actions.Invalid, "max_errors: %.100q is neither a number of rows nor a part such as 1%%", text)
	}
	return threshold{rows: n}, nil
}

// shareFrom is how many rows have to be done before a part of them says anything.
const shareFrom = 1000

// passed says whether too many rows have failed. At the end a part is looked at however few
// rows there were.
func (t threshold) passed(rows, failed int64, end bool) bool {
	switch {
	case t.share > 0:
		return (end || rows >= shareFrom) && float64(failed) > t.share*float64(rows)
	case t.rows < 0:
		return false
	}
	return failed > t.rows
}

func (t threshold) String() string {
	if t.share > 0 {
		return fmt.Sprintf("%v%% of the rows", t.share*100)
	}
	return fmt.Sprintf("%d rows", t.rows)
}
