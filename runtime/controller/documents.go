package controller

import (
	"encoding/json"
	"errors"
	"iter"
	"slices"

	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// documents gives the whole activations of a query, each read when it is asked for: one
// may have MiBs of logs, and a list 200 of them.
func (c *Controller) documents(caller string, q whisk.ActivationQuery) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		more := true
		err := c.cfg.Store.Activations(caller, q, func(r store.Record) bool {
			doc, err := withLogs(r)
			more = yield(doc, err) && err == nil
			return more
		})
		if err != nil && more {
			yield(nil, err)
		}
	}
}

// withLogs is the document of an activation with its logs, which are on disk beside it. They
// are put in as they are: to decode them takes several times their size.
func withLogs(r store.Record) (json.RawMessage, error) {
	begin, end := 0, 0
	s := jsonscan.New(r.Doc)
	whole := s.Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
		s.Space()
		from := s.Pos()
		ok := s.Value()
		if string(key) == "logs" {
			begin, end = from, s.Pos()
		}
		return ok
	})
	switch {
	case !whole || !s.AtEnd() || end == 0 || len(r.Logs) > 0 && !jsonscan.Valid(r.Logs):
		return nil, broken("activation "+r.ID, errors.New("its document is not JSON, or has no logs"))
	case len(r.Logs) == 0:
		return r.Doc, nil
	}
	return slices.Concat(r.Doc[:begin], r.Logs, r.Doc[end:]), nil
}
