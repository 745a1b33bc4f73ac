package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// A task is what the chunks of a batch have in common.
type task struct {
	engine *Engine
	folder folder
	rec    *record
	model  actions.Model
	// arguments makes those of a row.
	arguments *rows.Mapping
	// source is the input. One goroutine at a time reads it.
	source *rows.Source
	// attempt is the name of this process's attempts.
	attempt string
	watch   Watcher
	// described says that description is what the model says of itself.
	described   bool
	description *actions.Description

	mu     sync.Mutex   // guards schema
	schema *rows.Schema // of the output; nil when it needs none, or is not known yet
}

// A run is one Run of a batch.
type run struct {
	*task
	commits  map[int]*commit
	limit    threshold
	progress *progress
	shelf    *shelf
	fresh    bool // the record is of this run
}

// begin opens the input, and makes the output this batch's, or finds that it is. done is the
// manifest of a batch that is complete.
func (e *Engine) begin(ctx context.Context, id string, b actions.Batch, w Watcher) (r *run, done json.RawMessage, err error) {
	m, err := e.cfg.Model(ctx, b.Model)
	if err != nil {
		return nil, nil, err
	}
	code, err := hashModel(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	var source *rows.Source
	err = e.insist(ctx, w, theInput, func() error {
		source, err = rows.Open(ctx, e.cfg.Store, b.Input)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	rec := &record{
		Version: stateVersion, ID: id, Batch: settle(b, m, source), Input: source.Fingerprint(), ModelVersion: m.Version, Code: code,
	}
	t := &task{engine: e, folder: newFolder(e.cfg.Store, b.Output.URL), rec: rec, model: m, watch: w, attempt: newAttempt(), source: source}
	r = &run{task: t}
	r.limit, _ = parseThreshold(b.MaxErrors) // checked before
	if done, err = r.adopt(ctx); err == nil && done == nil {
		err = r.prepare(ctx)
		r.withdraw(ctx, err)
	}
	if err != nil || done != nil {
		return nil, done, errors.Join(err, source.Close())
	}
	return r, nil, nil
}

// adopt makes the output this batch's, unless it is another's.
func (r *run) adopt(ctx context.Context) (done json.RawMessage, err error) {
	err = r.insist(ctx, theOutput, func() error {
		var m *manifest
		if m, err = r.folder.manifest(ctx); err != nil || m == nil {
			return err
		}
		if m.Batch != r.rec.hash() {
			return r.taken("a complete batch")
		}
		done, err = json.Marshal(m)
		return errors.Join(err, r.folder.sweep(ctx))
	})
	if err != nil || done != nil {
		return done, err
	}
	return nil, r.insist(ctx, theOutput, func() error { return r.enter(ctx) })
}

// taken is the error of an output that something else has.
func (r *run) taken(what string) error {
	return actions.Errorf(actions.Conflict,
		"%s has %s of another input, model or settings; choose another output, or remove what is there", r.folder.url, what)
}

// enter writes the record of the batch, or compares it with the one that is there.
func (r *run) enter(ctx context.Context) error {
	there, err := r.folder.record(ctx)
	if err != nil {
		return err
	}
	if there == nil {
		for _, err := range r.folder.store.List(ctx, r.folder.url) {
			if err != nil {
				return err
			}
			return r.taken("objects")
		}
		if err := r.describe(ctx); err != nil {
			return err
		}
		r.rec.Texts = textColumns(&r.rec.Batch, r.model, r.description)
		err := r.folder.put(ctx, recordName, r.rec, true)
		if r.fresh = err == nil; actions.CodeOf(err) != actions.Conflict {
			return err
		}
		// Somebody was faster; or it was this very request, whose answer got lost.
		if there, err = r.folder.record(ctx); err != nil || there == nil {
			return err
		}
	}
	switch {
	case there.Input != r.rec.Input && reflect.DeepEqual(there.Batch.Input, r.rec.Batch.Input):
		return actions.Errorf(actions.Conflict,
			"the input %s has changed since the batch began; choose another output, or remove %s", r.rec.Batch.Input.URL, r.folder.url)
	case there.Code != r.rec.Code && there.Batch.Model == r.rec.Batch.Model:
		return actions.Errorf(actions.Conflict,
			"the model %s is not what it was when the batch began; bring it back, choose another output, or remove %s", r.model.Name, r.folder.url)
	case there.hash() != r.rec.hash():
		return r.taken("an unfinished batch")
	}
	r.rec.Texts = there.Texts
	return r.folder.put(ctx, recordName, r.rec, false) // what may change has changed; nothing is cancelled
}

// prepare finds out what is done already, and readies the rest.
func (r *run) prepare(ctx context.Context) error {
	if err := r.task.prepare(ctx); err != nil {
		return err
	}
	if err := r.source.Expect(&r.rec.Batch, r.rec.Texts); err != nil {
		return err
	}
	var tries map[string]int64
	err := r.insist(ctx, theOutput, func() error {
		var err error
		if r.commits, err = r.folder.load(ctx); err != nil {
			return err
		}
		if err = r.dropLost(ctx); err != nil {
			return err
		}
		if err = r.forgive(ctx); err != nil {
			return err
		}
		tries, err = r.folder.names(ctx, begun)
		return err
	})
	if err != nil {
		return err
	}
	r.progress = newProgress(r.source, r.watch.Progress)
	r.progress.begunAs(tries)
	r.shelf = newShelf(r.task)
	r.progress.tell(r.commits)
	if len(r.commits) > 0 {
		r.watch.line(fmt.Sprintf("goes on after %d chunks that are done, %d rows", len(r.commits), r.progress.rows))
	}
	return nil
}

// describe asks the model what it says of itself, once.
func (t *task) describe(ctx context.Context) error {
	if t.described {
		return nil
	}
	return t.insist(ctx, "the model "+t.model.Name, func() (err error) {
		t.description, err = t.engine.cfg.Describe(ctx, t.model)
		t.described = err == nil
		return err
	})
}

// prepare finds out how a row becomes arguments, and what the columns of the output are.
func (t *task) prepare(ctx context.Context) error {
	if err := t.describe(ctx); err != nil {
		return err
	}
	file, err := actions.FileArgument(t.model, t.description)
	if err != nil && ofFiles(t.rec.Batch.Input.Format) && len(t.rec.Batch.Map) == 0 {
		return &actions.Error{Code: actions.CodeOf(err), Msg: "the input is of files (map says which argument they are): " + err.Error(), Err: err}
	}
	t.arguments = rows.NewMapping(&t.rec.Batch, file)
	return t.insist(ctx, theOutput, func() error { return t.learn(ctx) })
}

// chunkLimit is where a chunk ends.
func (t *task) chunkLimit() rows.Limit {
	return rows.Limit{Rows: t.rec.Batch.ChunkRows, Bytes: int64(t.rec.Batch.ChunkBytes)}
}

// learn reads the columns of the output, if somebody has told them.
func (t *task) learn(ctx context.Context) error {
	schema := new(rows.Schema)
	found, err := t.folder.take(ctx, schemaName, schema)
	if found && err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.schema = schema
	}
	return err
}

// dropLost forgets commits whose answers are nowhere, so that they are done again. It is what
// is left when somebody has removed a part.
func (r *run) dropLost(ctx context.Context) error {
	there, err := r.folder.names(ctx, "")
	if err != nil {
		return err
	}
	for index, c := range r.commits {
		for _, p := range c.pieces() {
			size, found := there[p.Name]
			if _, waits := there[staged+p.Staged]; waits || found && size == p.Size {
				continue
			}
			r.watch.line(fmt.Sprintf("%s is gone: chunk %d is done again", p.Name, index))
			if err := r.folder.store.Remove(ctx, r.folder.url+chunkName(commits, index)); err != nil {
				return err
			}
			delete(r.commits, index)
			break
		}
	}
	return nil
}

// forgive forgets why chunks could not be done, so that they are tried again.
func (r *run) forgive(ctx context.Context) error {
	names, err := r.folder.names(ctx, failures)
	if err != nil {
		return err
	}
	return each(ctx, keys(names), func(ctx context.Context, name string) error {
		return r.folder.store.Remove(ctx, r.folder.url+failures+name)
	})
}

func (r *run) close() {
	r.shelf.close()
	_ = r.source.Close()
}

// A next is a chunk that was read.
type next struct {
	index int
	row   int64
	at    json.RawMessage
	part  rows.Part
	err   error
}

// local does all chunks here, one at a time, and reads the next one meanwhile.
func (r *run) local(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ahead := make(chan next)
	var wg sync.WaitGroup
	done := maps.Clone(r.commits)                          // which changes below
	wg.Go(func() { r.readAhead(ctx, ahead, done, false) }) // ends with ctx, or with the input
	defer wg.Wait()
	defer cancel()
	for {
		var n next
		var more bool
		select {
		case n, more = <-ahead:
		case <-ctx.Done():
			return leftError(ctx)
		}
		if !more {
			return r.passed(true)
		}
		if n.err != nil {
			return n.err
		}
		c, err := r.do(ctx, n, r.progress.begin)
		if err != nil {
			return err
		}
		if err := r.committed(c); err != nil {
			return err
		}
	}
}

// readAhead reads the chunks that are not done, in order, and closes ahead at the end of the input. Of
// chunks that others do it reads where they begin alone.
func (r *run) readAhead(ctx context.Context, ahead chan<- next, done map[int]*commit, skip bool) {
	defer close(ahead)
	n := next{}
	for {
		if c := done[n.index]; c != nil {
			if n = n.following(c.Next, c.Rows); n.at == nil {
				return
			}
			continue
		}
		limit := r.chunkLimit()
		limit.Skip = skip
		n.err = r.insist(ctx, theInput, func() (err error) {
			n.part, err = r.source.Read(ctx, n.at, n.row, limit)
			return err
		})
		select {
		case ahead <- n:
		case <-ctx.Done():
			return
		}
		if n.err != nil {
			return
		}
		if n = n.following(n.part.Next, n.part.Count); n.at == nil {
			return
		}
	}
}

// following is the chunk behind one, not read yet.
func (n next) following(at json.RawMessage, count int64) next {
	return next{index: n.index + 1, row: n.row + count, at: at}
}

// withdraw leaves the output as it was if a batch that cannot work has done nothing there: the next
// try, with other settings or a mended input, is another batch.
func (r *run) withdraw(ctx context.Context, reason error) {
	if reason == nil || !r.fresh || ctx.Err() != nil || isTemporary(reason) {
		return
	}
	there, err := r.folder.names(ctx, "")
	if _, is := there[recordName]; err != nil || !is {
		return
	}
	delete(there, recordName)
	for name := range there {
		if r.rec.Batch.Through != "" || !strings.HasPrefix(name, begun) || !strings.HasSuffix(name, "-"+r.attempt) {
			return // the record says what to do
		}
	}
	for name := range there {
		if r.folder.store.Remove(ctx, r.folder.url+name) != nil {
			return
		}
	}
	if r.folder.store.Remove(ctx, r.folder.url+recordName) == nil {
		_ = r.folder.store.Tidy(ctx, r.folder.url) // what is left is no object
	}
}

// completed is the manifest of a batch that another process has completed meanwhile, which is the
// reason for some errors; else it is the error.
func (r *run) completed(ctx context.Context, reason error) (json.RawMessage, error) {
	if !errors.Is(reason, errComplete) && actions.CodeOf(reason) != actions.NotFound {
		return nil, reason
	}
	if err := r.stillWanted(ctx); !errors.Is(err, errComplete) {
		return nil, reason
	}
	r.shelf.wait()
	done, err := r.adopt(ctx)
	if err == nil && done != nil {
		r.watch.line("another process has completed the batch")
		return done, nil
	}
	return nil, errors.Join(err, reason)
}
