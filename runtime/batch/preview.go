package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// A Preview is what a batch would do, as far as its first rows tell.
type Preview struct {
	// Batch is the batch with the defaults that its input and its model decide.
	Batch actions.Batch
	// Objects are those of the input, Size their bytes as they are stored. Total is how many
	// rows there are, 0 if only reading them tells.
	Objects     int
	Size, Total int64
	// Args and Files are the arguments of the first row.
	Args  json.RawMessage
	Files []actions.File
	// Answer is the answer to it, Err why there is none.
	Answer actions.Response
	Err    error
	// Read is how many rows were read, Bytes what they take of Size.
	Read  int
	Bytes int64
	// Rows are those that were predicted, Failed those of them without an answer. Took is the
	// time for them, without that for the first one, for which the model had to be loaded.
	Rows, Failed int
	// Unselected are the members of Output.Select that none of their answers has.
	Unselected []string
	Took       time.Duration
}

// Preview predicts the first rows of a batch, for about that time, and writes nothing. The errors
// are those of Run.
func (e *Engine) Preview(ctx context.Context, b actions.Batch, enough time.Duration) (Preview, error) {
	if err := e.mayRun(b); err != nil {
		return Preview{}, err
	}
	m, err := e.cfg.Model(ctx, b.Model)
	if err != nil {
		return Preview{}, err
	}
	source, err := rows.Open(ctx, e.cfg.Store, b.Input)
	if err != nil {
		return Preview{}, err
	}
	defer func() { _ = source.Close() }() // it was only read
	t := &task{
		engine: e, folder: newFolder(e.cfg.Store, b.Output.URL), model: m, attempt: newAttempt(),
		rec: &record{Version: stateVersion, Batch: settle(b, m, source), Input: source.Fingerprint(), ModelVersion: m.Version},
	}
	if err := t.prepare(ctx); err != nil {
		return Preview{}, err
	}
	if err := source.Expect(&t.rec.Batch, textColumns(&t.rec.Batch, m, t.description)); err != nil {
		return Preview{}, err
	}
	part, err := source.Read(ctx, nil, 0, t.chunkLimit())
	if err != nil {
		return Preview{}, err
	}
	p := Preview{
		Batch: t.rec.Batch, Objects: source.Objects(), Size: source.Size(), Total: source.Total(), Read: len(part.Rows), Bytes: part.Bytes,
	}
	return p, t.preview(ctx, &p, part.Rows, enough)
}

// preview predicts rows: the first one, which loads the model, then more and more of them, until
// that took long enough to say how long all take.
func (t *task) preview(ctx context.Context, p *Preview, all []rows.Row, enough time.Duration) error {
	if len(all) == 0 {
		return nil
	}
	if p.Args, p.Files, p.Err = t.arguments.Arguments(&all[0]); p.Err != nil {
		p.Failed, p.Rows = 1, 1
		return nil //nolint:nilerr // it is the row's
	}
	outcomes, err := t.predictFew(ctx, all[:1])
	if err != nil {
		return err
	}
	told := slices.Clone(outcomes)
	p.Answer = outcomes[0].response
	if outcomes[0].err != nil {
		p.Err = outcomes[0].err
	}
	for n := t.call().Concurrency; p.Took < enough && p.Rows < len(all); n *= 2 {
		began := time.Now()
		some := all[p.Rows:min(p.Rows+n, len(all))]
		if outcomes, err = t.predictFew(ctx, some); err != nil {
			return err
		}
		p.Took += time.Since(began)
		p.Rows += len(some)
		told = append(told[:p.Rows-len(some)], outcomes...) // the first row's twice
		for _, o := range outcomes {
			if o.err != nil {
				p.Failed++
			}
		}
	}
	p.Unselected, err = unselected(t.rec.Batch.Output, all, told, fmt.Sprintf("to the first %d rows", len(told)))
	return err
}

// predictFew predicts rows whose answers are kept in memory.
func (t *task) predictFew(ctx context.Context, some []rows.Row) ([]outcome, error) {
	outcomes := make([]outcome, len(some))
	if err := t.predictSome(ctx, some, outcomes); err != nil {
		return nil, err
	}
	return outcomes, allAway(outcomes)
}
