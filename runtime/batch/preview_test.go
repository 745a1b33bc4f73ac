package batch_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestPreview(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(50)})
	b := someBatch()
	b.ChunkRows = 0
	p, err := newEngine(t, &client{memory: m}, newModel()).Preview(t.Context(), b, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if p.Rows != 50 || p.Read != 50 || p.Failed != 0 || p.Err != nil || p.Objects != 1 || p.Size != int64(len(numbers(50))) || p.Bytes != p.Size {
		t.Errorf("got %+v", p)
	}
	if diff := cmp.Diff(`{"n":0}`, string(p.Args)); diff != "" || p.Batch.ChunkRows == 0 || p.Batch.Input.Format != actions.NDJSON || len(p.Answer.Data) == 0 {
		t.Errorf("got %s, %s of %+v", p.Args, p.Answer.Data, p.Batch)
	}
	// It has predicted the first row twice, and stops when it knows enough.
	p, err = newEngine(t, &client{memory: m}, newModel()).Preview(t.Context(), b, time.Nanosecond)
	if err != nil || p.Rows != 1 || p.Read != 50 {
		t.Errorf("got %d of %d rows, %v, want one", p.Rows, p.Read, err)
	}
	if written := m.below(output); len(written) > 0 {
		t.Errorf("it has written %v", written)
	}
}

func TestPreviewOfWrongRow(t *testing.T) {
	m := newMemory(map[string]string{input: "{\n" + numbers(3)})
	p, err := newEngine(t, &client{memory: m}, newModel()).Preview(t.Context(), someBatch(), time.Hour)
	if err != nil || actions.CodeOf(p.Err) != actions.Invalid || p.Failed != 1 || p.Rows != 1 {
		t.Errorf("got %+v, %v, want the error of the row", p, err)
	}
	b := someBatch()
	b.Model = "none"
	_, err = newEngine(t, &client{memory: m}, newModel()).Preview(t.Context(), b, time.Hour)
	wantError(t, err, actions.NotFound, "there is no model")
}
