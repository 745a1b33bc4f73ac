package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// A manifest says what a complete output holds. It has nothing in it that another run of the
// batch would not write.
type manifest struct {
	Version      int           `json:"version"`
	Model        string        `json:"model"`
	ModelVersion string        `json:"model_version,omitempty"`
	Input        manifestInput `json:"input"`
	Format       string        `json:"format"`
	// Rows are those of the input, Predicted those with an answer, Failed the others.
	Rows      int64   `json:"rows"`
	Predicted int64   `json:"predicted"`
	Failed    int64   `json:"failed"`
	Chunks    int     `json:"chunks"`
	Parts     []piece `json:"parts"`
	Errors    []piece `json:"errors"`
	// Batch tells batches apart.
	Batch string `json:"batch"`
}

type manifestInput struct {
	URL         string `json:"url"`
	Format      string `json:"format"`
	Bytes       int64  `json:"bytes"`
	Fingerprint string `json:"sha256"` // of names, sizes and ETags
}

// finish puts the last parts into their places, writes the manifest, and removes the state.
func (r *run) finish(ctx context.Context) (json.RawMessage, error) {
	r.shelf.wait()
	if err := r.insist(ctx, theOutput, func() error { return r.publishRest(ctx) }); err != nil {
		return nil, err
	}
	m := r.summarize()
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("batch: manifest: %w", err)
	}
	data = append(data, '\n')
	err = r.insist(ctx, theOutput, func() error {
		return r.folder.store.Put(ctx, r.folder.url+manifestName, bytes.NewReader(data), int64(len(data)), actions.PutOptions{ContentType: "application/json"})
	})
	if err != nil {
		return nil, err
	}
	return data, r.insist(ctx, theOutput, func() error { return r.folder.sweep(ctx) })
}

// leave gives what is committed its names when too many rows have failed: the error sends people to
// the files that say why. A store that does not take it now gets it from who goes on.
func (r *run) leave(ctx context.Context) {
	r.shelf.wait()
	if err := r.publishRest(ctx); err != nil {
		r.engine.cfg.Log.WarnContext(ctx, "parts have no names yet", "output", r.folder.url, "error", err)
	}
}

// publishRest publishes what the shelf has not, and makes sure that all parts are there.
func (r *run) publishRest(ctx context.Context) error {
	there, err := r.folder.names(ctx, "")
	if err != nil {
		return err
	}
	names := make([]string, 0, len(r.commits))
	by := make(map[string]*commit, len(r.commits))
	for index, c := range r.commits {
		name := chunkName("", index)
		by[name], names = c, append(names, name)
	}
	return each(ctx, names, func(ctx context.Context, name string) error {
		return r.publish(ctx, by[name], there)
	})
}

func (r *run) summarize() *manifest {
	b := &r.rec.Batch
	m := &manifest{
		Version: stateVersion, Model: r.model.Name, ModelVersion: r.rec.ModelVersion, Format: b.Output.Format,
		Input:  manifestInput{URL: b.Input.URL, Format: b.Input.Format, Bytes: r.source.Size(), Fingerprint: r.rec.Input},
		Chunks: len(r.commits), Parts: []piece{}, Errors: []piece{}, Batch: r.rec.hash(),
	}
	for index := range len(r.commits) {
		c := r.commits[index]
		m.Rows += c.Rows
		m.Failed += c.Failed
		m.Predicted += c.Part.Rows
		if p := c.Part; p.Name != "" || p.Rows > 0 {
			p.Staged = ""
			m.Parts = append(m.Parts, p)
		}
		if c.Errors != nil {
			p := *c.Errors
			p.Staged = ""
			m.Errors = append(m.Errors, p)
		}
	}
	return m
}

// sweep removes the state of a batch that is complete, the record last: while that is there, the
// manifest is known to be of this batch.
func (f folder) sweep(ctx context.Context) error {
	names, err := f.names(ctx, stateFolder)
	if err != nil {
		return err
	}
	record := strings.TrimPrefix(recordName, stateFolder)
	rest := slices.DeleteFunc(keys(names), func(name string) bool { return name == record })
	err = each(ctx, rest, func(ctx context.Context, name string) error {
		return f.store.Remove(ctx, f.url+stateFolder+name)
	})
	if err != nil {
		return err
	}
	if err := f.store.Remove(ctx, f.url+recordName); err != nil {
		return err
	}
	return f.store.Tidy(ctx, f.url)
}
