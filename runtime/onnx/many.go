package onnx

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/deepfn/deepfn/actions"
)

// predictMany predicts for each row of the arguments, a list of those of each. The model runs
// once a row, but there is one call, and one answer, for all of them. Its form is that of
// predict-many in the protocol of package worker.
func (p *Program) predictMany(ctx context.Context, req actions.Request) (actions.Response, error) {
	var rows []json.RawMessage
	if err := json.Unmarshal(req.Args, &rows); err != nil || len(req.Files) > 0 {
		return actions.Response{}, actions.Errorf(actions.Invalid, "predict-many takes a list of the arguments of each row")
	}
	b := []byte{'['}
	for i, args := range rows {
		r, err := p.predict(ctx, actions.Request{Model: req.Model, Args: args, Accept: req.Accept})
		switch code := actions.CodeOf(err); {
		case ctx.Err() != nil && (code == actions.Deadline || code == actions.Canceled):
			return actions.Response{}, err
		case err != nil:
			b, err = appendError(comma(b, i), err)
		default:
			b, err = appendAnswer(comma(b, i), r)
		}
		if err != nil {
			return actions.Response{}, typed(err)
		}
	}
	return actions.Response{ContentType: typeJSON, Data: append(b, ']')}, nil
}

// appendAnswer appends what predict-many says of a row that was predicted.
func appendAnswer(b []byte, r actions.Response) ([]byte, error) {
	if r.ContentType == typeJSON {
		b = append(b, `{"value":`...)
		b = append(b, r.Data...)
		return append(b, '}'), nil
	}
	told, err := json.Marshal(struct {
		ContentType string `json:"content_type"`
		Filename    string `json:"filename"`
		Data        []byte `json:"data"`
	}{r.ContentType, r.Filename, r.Data})
	return append(b, told...), err
}

// appendError appends what predict-many says of a row that failed.
func appendError(b []byte, err error) ([]byte, error) {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		e = actions.Errorf(actions.Failed, "%w", err)
	}
	told, err := json.Marshal(struct {
		Error  string              `json:"error"`
		Code   actions.Code        `json:"code"`
		Fields map[string][]string `json:"fields,omitempty"`
		Status int                 `json:"status,omitempty"`
	}{e.Msg, e.Code, e.Fields, e.Status})
	return append(b, told...), err
}
