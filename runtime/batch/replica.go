package batch

import (
	"context"
	"errors"

	"github.com/deepfn/deepfn/actions"
)

// Do does one chunk that Config.Dispatch of some process has handed out, and returns when it is
// committed, by this call or by another. The error is Invalid, or another code that is no reason
// to try again, for what nobody can do, which the batch is told through the store; Unavailable
// and Busy mean that the chunk shall be handed out again.
func (e *Engine) Do(ctx context.Context, c actions.Chunk) error {
	if err := check(c.Batch); err != nil {
		return err
	}
	f := newFolder(e.cfg.Store, c.Batch.Output.URL)
	rec, over, err := e.wanted(ctx, f, c)
	if err != nil || over {
		return err
	}
	err = e.doChunk(ctx, f, rec, c)
	if err == nil || ctx.Err() != nil || isTemporary(err) {
		return err
	}
	told := asError(err)
	if putErr := f.put(ctx, chunkName(failures, c.Index), failure{told.Code, told.Error()}, false); putErr != nil {
		return putErr
	}
	return err
}

func isTemporary(err error) bool {
	return mayGoAway(asError(err)) || actions.CodeOf(err) == actions.Deadline
}

// wanted says whether anybody waits for a chunk; over says that it is done, or that nobody does.
func (e *Engine) wanted(ctx context.Context, f folder, c actions.Chunk) (rec *record, over bool, err error) {
	if rec, err = f.record(ctx); err != nil {
		return nil, false, err
	}
	if rec == nil {
		m, err := f.manifest(ctx)
		if err == nil && m == nil {
			err = actions.Errorf(actions.Invalid, "%s has no batch", f.url)
		}
		return nil, m != nil, err
	}
	asked := record{Batch: c.Batch, Input: c.Input, ModelVersion: rec.ModelVersion, Code: rec.Code}
	switch {
	case rec.Cancelled:
		return nil, true, nil
	case asked.hash() != rec.hash():
		return nil, false, actions.Errorf(actions.Invalid, "%s has another batch", f.url)
	}
	done := new(commit)
	over, err = f.take(ctx, chunkName(commits, c.Index), done)
	return rec, over, err
}

// doChunk reads, predicts and commits a chunk.
func (e *Engine) doChunk(ctx context.Context, f folder, rec *record, c actions.Chunk) error {
	m, err := e.cfg.Model(ctx, c.Batch.Model)
	if err != nil {
		return err
	}
	if m.Version != rec.ModelVersion {
		return actions.Errorf(actions.Conflict, "this replica has version %q of %s, the batch began with %q", m.Version, m.Name, rec.ModelVersion)
	}
	code, err := e.modelHash(ctx, m)
	if err != nil {
		return err
	}
	if code != rec.Code {
		return actions.Errorf(actions.Conflict, "this replica has another %s than the one that the batch began with", m.Name)
	}
	t := &task{engine: e, folder: f, rec: rec, model: m, attempt: newAttempt()}
	if err := t.prepare(ctx); err != nil {
		return err
	}
	in, err := e.input(ctx, &c.Batch, rec.Texts)
	if err != nil {
		return err
	}
	if in.source.Fingerprint() != c.Input {
		_ = in.source.Close()
		return actions.Errorf(actions.Conflict, "the input %s is not what it was when the batch began", c.Batch.Input.URL)
	}
	t.source = in.source
	n := next{index: c.Index, row: c.Row, at: c.At}
	n.part, err = in.source.Read(ctx, c.At, c.Row, t.chunkLimit())
	if err != nil {
		_ = in.source.Close()
		return err
	}
	e.putBack(&c.Batch, rec.Texts, in)
	done, err := t.do(ctx, n, func(int) {})
	if errors.Is(err, errComplete) { // by others, while this went on
		return f.sweep(ctx)
	}
	if err != nil {
		return err
	}
	_ = t.publish(ctx, done, nil) // else the batch does it
	return nil
}
