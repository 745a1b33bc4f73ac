package batch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// A part is what the answers of a chunk become, before it is stored.
type part struct {
	answers, errors *spool
	written, failed int64
	unstored        bool   // answers is only hashed
	line            []byte // memory for a row of errors
}

func (p *part) close() {
	p.answers.close()
	p.errors.close()
}

// fail writes a row of errors.
func (p *part) fail(r *rows.Row, e *actions.Error) error {
	p.failed++
	p.line = rows.AppendError(p.line[:0], r, e)
	_, err := p.errors.Write(p.line)
	return err
}

// write stages the answers of a chunk.
func (t *task) write(ctx context.Context, n next, outcomes []outcome) (*commit, error) {
	p := &part{answers: newSpool(t.engine.cfg.TempDir), errors: newSpool(t.engine.cfg.TempDir)}
	defer p.close()
	var err error
	if t.rec.Batch.Output.Format == actions.Objects {
		err = t.writeObjects(ctx, n, outcomes, p)
	} else {
		err = t.writePart(ctx, n, outcomes, p)
	}
	if err != nil {
		return nil, err
	}
	c := &commit{
		Index: n.index, Row: n.row, At: n.at, Next: n.part.Next, Bytes: n.part.Bytes,
		Rows: int64(len(n.part.Rows)), Failed: p.failed,
	}
	c.Part = piece{Rows: p.written, Size: p.answers.size, SHA256: p.answers.hash()}
	if !p.unstored {
		extension := rows.Extension(t.rec.Batch.Output)
		c.Part.Name = fmt.Sprintf("part-%06d%s", n.index, extension)
		c.Part.Staged = fmt.Sprintf("%06d-%s%s", n.index, t.attempt, extension)
		if err := t.stage(ctx, c.Part, p.answers, rows.ContentType(t.rec.Batch.Output)); err != nil {
			return nil, err
		}
	}
	if p.failed > 0 {
		c.Errors = &piece{
			Name: fmt.Sprintf("errors-%06d.ndjson", n.index), Staged: fmt.Sprintf("%06d-%s-errors.ndjson", n.index, t.attempt),
			Rows: p.failed, Size: p.errors.size, SHA256: p.errors.hash(),
		}
		return c, t.stage(ctx, *c.Errors, p.errors, "application/x-ndjson")
	}
	return c, nil
}

// stage stores a piece under the name of its attempt.
func (t *task) stage(ctx context.Context, p piece, s *spool, contentType string) error {
	return t.insist(ctx, theOutput, func() error {
		body, err := s.body()
		if err != nil {
			return err
		}
		return t.folder.store.Put(ctx, t.folder.url+staged+p.Staged, body, s.size, actions.PutOptions{ContentType: contentType})
	})
}

// writePart writes the answers into one part, and the rows without one to the errors.
func (t *task) writePart(ctx context.Context, n next, outcomes []outcome, p *part) error {
	schema, err := t.columns(ctx, n, outcomes)
	if err != nil {
		return err
	}
	if schema == nil && hasColumns(t.rec.Batch.Output) { // no row has told them, so that there is nothing to write
		return p.failAll(n, outcomes)
	}
	w, err := rows.NewWriter(p.answers, t.rec.Batch.Output, schema)
	if err != nil {
		return err
	}
	for i := range outcomes {
		row, o := &n.part.Rows[i], &outcomes[i]
		if o.err == nil {
			err := w.Write(answerOf(row, o))
			if err == nil {
				continue
			}
			if actions.CodeOf(err) != actions.Invalid {
				return err
			}
			o.err = asError(err)
		}
		if err := p.fail(row, o.err); err != nil {
			return err
		}
	}
	p.written = w.Rows()
	return w.Close()
}

func answerOf(row *rows.Row, o *outcome) rows.Answer {
	return rows.Answer{Row: row, Data: o.response.Data, ContentType: o.response.ContentType, Filename: o.response.Filename}
}

// failAll writes the errors of a chunk without answers.
func (p *part) failAll(n next, outcomes []outcome) error {
	p.unstored = true
	for i := range outcomes {
		if err := p.fail(&n.part.Rows[i], outcomes[i].err); err != nil {
			return err
		}
	}
	return nil
}

// hasColumns says whether the parts of an output have columns, the same in all of them.
func hasColumns(out actions.BatchOutput) bool {
	return out.Format == actions.CSV || out.Format == actions.Parquet
}

// columns returns those of the output, which the first answers tell; nil if there are none, or
// if nobody has told them yet.
func (t *task) columns(ctx context.Context, n next, outcomes []outcome) (*rows.Schema, error) {
	if !hasColumns(t.rec.Batch.Output) {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.schema != nil {
		return t.schema, nil
	}
	var answers []rows.Answer
	for i := range outcomes {
		if outcomes[i].err == nil {
			answers = append(answers, answerOf(&n.part.Rows[i], &outcomes[i]))
		}
	}
	if len(answers) == 0 {
		return nil, nil
	}
	schema, err := rows.Infer(answers, &t.rec.Batch)
	if err != nil {
		return nil, err
	}
	err = t.insist(ctx, theOutput, func() error {
		err := t.folder.put(ctx, schemaName, schema, true)
		if actions.CodeOf(err) != actions.Conflict {
			return err
		}
		first := new(rows.Schema)
		found, err := t.folder.take(ctx, schemaName, first)
		if found {
			schema = first
		}
		return err
	})
	if err == nil {
		t.schema = schema
	}
	return schema, err
}

// writeObjects stores each answer as an object of its own. The part is the list of their hashes and
// names then, which is hashed and not stored.
func (t *task) writeObjects(ctx context.Context, n next, outcomes []outcome, p *part) error {
	p.unstored = true
	files, err := rows.NewFiles(t.rec.Batch.Output, t.source)
	if err != nil {
		return err
	}
	stored := make(map[string]*outcome, len(outcomes))
	named := make([]actions.File, len(outcomes))
	for i := range outcomes {
		if outcomes[i].err != nil {
			continue
		}
		if named[i], err = files.File(answerOf(&n.part.Rows[i], &outcomes[i])); err != nil {
			outcomes[i].err = asError(err)
			continue
		}
		outcomes[i].response.Data, outcomes[i].response.ContentType = named[i].Data, named[i].ContentType
		stored[named[i].Filename] = &outcomes[i]
	}
	err = each(ctx, keys(stored), func(ctx context.Context, name string) error { return t.storeObject(ctx, name, stored[name]) })
	if err != nil {
		return err
	}
	for i := range outcomes {
		if e := outcomes[i].err; e != nil {
			err = p.fail(&n.part.Rows[i], e)
		} else {
			p.written++
			_, err = fmt.Fprintf(p.answers, "%x  %s\n", sha256.Sum256(named[i].Data), named[i].Filename)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storeObject stores one answer. One that the store will never take is an error of its row.
func (t *task) storeObject(ctx context.Context, name string, o *outcome) error {
	data := o.response.Data
	err := t.insist(ctx, theOutput, func() error {
		return t.folder.store.Put(ctx, t.folder.object(name), bytes.NewReader(data), int64(len(data)),
			actions.PutOptions{ContentType: o.response.ContentType})
	})
	if code := actions.CodeOf(err); code == actions.Invalid || code == actions.TooLarge {
		o.err = asError(err)
		return nil
	}
	return err
}
