package batch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

const (
	stateFolder  = "_deepfn/"
	recordName   = stateFolder + "job.json"
	schemaName   = stateFolder + "schema.json"
	commits      = stateFolder + "chunks/"
	begun        = stateFolder + "begun/"
	staged       = stateFolder + "staged/"
	failures     = stateFolder + "failed/"
	manifestName = "manifest.json"

	stateVersion = 1
	// maxState is how large an object of the state may be: a manifest has 200 bytes for each chunk.
	maxState = 1 << 30
	// parallel is how many small requests are under way at the same time.
	parallel = 16
)

// A record is job.json: the batch that an output is of.
type record struct {
	Version int           `json:"version"`
	ID      string        `json:"id"`
	Batch   actions.Batch `json:"batch"` // settled
	// Input is the fingerprint of the input, Code that of the model, which has ModelVersion.
	Input        string `json:"input"`
	ModelVersion string `json:"model_version,omitempty"`
	Code         string `json:"model_sha256,omitempty"`
	// Texts are the columns that are read as texts because the model said so when the batch began
	// (rows.Source.Expect). It is not asked again: all chunks are read in the same way.
	Texts     map[string]bool `json:"texts,omitempty"`
	Cancelled bool            `json:"cancelled,omitempty"`
}

// hash tells batches apart by what their output depends on. That is not where it is.
func (r *record) hash() string {
	b := r.Batch
	b.Output.URL, b.MaxErrors, b.Concurrency, b.Retries, b.Through, b.Sink = "", "", 0, 0, "", ""
	data, _ := json.Marshal(struct { // of nothing that cannot be encoded
		Batch              actions.Batch
		Input, Model, Code string
	}{b, r.Input, r.ModelVersion, r.Code})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// A commit says that a chunk is done, and which attempt counts.
type commit struct {
	Index int   `json:"index"`
	Row   int64 `json:"row"` // the number of its first row
	// At is where it begins in the input, Next where the following one does; null is the
	// beginning and the end.
	At   json.RawMessage `json:"at,omitempty"`
	Next json.RawMessage `json:"next,omitempty"`
	// Bytes is its part of the input. Rows are all of its rows, Failed those without an answer.
	Bytes  int64  `json:"bytes"`
	Rows   int64  `json:"rows"`
	Failed int64  `json:"failed"`
	Part   piece  `json:"part,omitzero"`
	Errors *piece `json:"errors,omitempty"`
	// First is the first error of a chunk without answers. Unselected are the members of
	// Output.Select that no answer of the first chunk has.
	First      string   `json:"first_error,omitempty"`
	Unselected []string `json:"unselected,omitempty"`
}

// A piece is an object of the output.
type piece struct {
	// Name is where it is below the output, Staged where it was before it was committed. Both
	// are empty of answers that are objects of their own.
	Name   string `json:"name,omitempty"`
	Staged string `json:"staged,omitempty"`
	Rows   int64  `json:"rows"`
	Size   int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// pieces are those that have a place in the output.
func (c *commit) pieces() []piece {
	var all []piece
	if c.Part.Name != "" {
		all = append(all, c.Part)
	}
	if c.Errors != nil {
		all = append(all, *c.Errors)
	}
	return all
}

// A failure says why a chunk cannot be done.
type failure struct {
	Code  actions.Code `json:"code"`
	Error string       `json:"error"`
}

func chunkName(folder string, index int) string { return fmt.Sprintf("%s%06d.json", folder, index) }

// A folder is the output of a batch.
type folder struct {
	store Store
	url   string // ends in a slash
}

// newFolder is the folder of a URL, which is written as stores write theirs: what is below it is found
// in their lists by how it begins.
func newFolder(store Store, text string) folder {
	u, err := url.Parse(text)
	if err != nil {
		return folder{store, text} // as checkURLs says
	}
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}
	return folder{store, plain.String()}
}

// object is the URL of an object of a name in the output, which may have any characters.
func (f folder) object(name string) string {
	return f.url + (&url.URL{Path: name}).EscapedPath()
}

// put writes an object of the state.
func (f folder) put(ctx context.Context, name string, v any, once bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("batch: %s: %w", name, err)
	}
	data = append(data, '\n')
	return f.store.Put(ctx, f.url+name, bytes.NewReader(data), int64(len(data)), actions.PutOptions{ContentType: "application/json", Once: once})
}

// take reads an object of the state into v; found is false when it is not there.
func (f folder) take(ctx context.Context, name string, v any) (found bool, err error) {
	body, err := f.store.Open(ctx, f.url+name, 0, -1)
	if actions.CodeOf(err) == actions.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxState))
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, &actions.Error{
			Code: actions.Conflict, Err: err,
			Msg: f.url + name + " was not written by this program, or was changed; remove " + f.url + stateFolder + " to begin anew",
		}
	}
	return true, nil
}

func (f folder) record(ctx context.Context) (*record, error) {
	rec := new(record)
	found, err := f.take(ctx, recordName, rec)
	switch {
	case err != nil || !found:
		return nil, err
	case rec.Version != stateVersion:
		return nil, actions.Errorf(actions.Conflict, "%s is of another version of deepfn (%d); finish the batch with that, or remove it", f.url+recordName, rec.Version)
	}
	return rec, nil
}

func (f folder) manifest(ctx context.Context) (*manifest, error) {
	m := new(manifest)
	found, err := f.take(ctx, manifestName, m)
	if err != nil || !found {
		return nil, err
	}
	return m, nil
}

// complete says whether there is a manifest.
func (f folder) complete(ctx context.Context) (bool, error) {
	_, err := f.store.Stat(ctx, f.url+manifestName)
	if actions.CodeOf(err) == actions.NotFound {
		return false, nil
	}
	return err == nil, err
}

// names lists what is below a folder of the output, without that folder's own name, with sizes.
func (f folder) names(ctx context.Context, below string) (map[string]int64, error) {
	names := map[string]int64{}
	for o, err := range f.store.List(ctx, f.url+below) {
		if err != nil {
			return nil, err
		}
		names[strings.TrimPrefix(o.URL, f.url+below)] = o.Size
	}
	return names, nil
}

// load reads all commits, by index.
func (f folder) load(ctx context.Context) (map[int]*commit, error) {
	names, err := f.names(ctx, commits)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	all := make(map[int]*commit, len(names))
	err = each(ctx, keys(names), func(ctx context.Context, name string) error {
		c := new(commit)
		found, err := f.take(ctx, commits+name, c)
		if err != nil || !found {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all[c.Index] = c
		return nil
	})
	return all, err
}

func keys[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for name := range m {
		all = append(all, name)
	}
	return all
}

// each calls do for all names, some at a time, until one fails, and returns that error.
func each(ctx context.Context, names []string, do func(context.Context, string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan string)
	var wg sync.WaitGroup
	for range min(parallel, len(names)) {
		wg.Go(func() { // ends with the names
			for name := range work {
				if ctx.Err() != nil {
					continue
				}
				if err := do(ctx, name); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}
