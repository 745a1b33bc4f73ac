package proxy

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// submitBatch answers POST /v2/models/{model}/batch/: a batch prediction goes on when the answer
// has been sent, which says where to ask for it.
func (s *Server) submitBatch(ctx context.Context, r *request) response {
	if crossSite(r) && !s.cfg.Entry.Public {
		s.metrics.refused("cross_site")
		return failure(actions.Errorf(actions.Forbidden, otherSite))
	}
	return s.batch(ctx, r, func(model, _ string) (response, error) {
		b, err := actions.ParseBatch(r.body)
		switch {
		case err != nil:
			return response{}, err
		case b.Model != "" && b.Model != model:
			return response{}, actions.Errorf(actions.Invalid, "the batch is of the model %q, and its address of %s; leave the member model out", short(b.Model), model)
		}
		b.Model = model
		job, err := s.cfg.Batches.Submit(ctx, b)
		if err != nil {
			return response{}, err
		}
		resp := jsonResponse(http.StatusAccepted, job)
		resp.location = s.at(r) + "/v2/models/" + url.PathEscape(model) + "/batch/" + job.ID
		return resp, nil
	})
}

// batches answers GET /v2/models/{model}/batch/.
func (s *Server) batches(ctx context.Context, r *request) response {
	return s.batch(ctx, r, func(model, _ string) (response, error) {
		jobs, err := s.cfg.Batches.List(ctx, model)
		if jobs == nil {
			jobs = []actions.Job{} // a list also when it is empty
		}
		return jsonResponse(http.StatusOK, jobs), err
	})
}

// batchStatus answers GET /v2/models/{model}/batch/{uuid}.
func (s *Server) batchStatus(ctx context.Context, r *request) response {
	return s.batch(ctx, r, func(model, id string) (response, error) {
		job, err := s.cfg.Batches.Job(ctx, model, id)
		return jsonResponse(http.StatusOK, job), err
	})
}

// cancelBatch answers DELETE /v2/models/{model}/batch/{uuid}.
func (s *Server) cancelBatch(ctx context.Context, r *request) response {
	return s.batch(ctx, r, func(model, id string) (response, error) {
		job, err := s.cfg.Batches.Cancel(ctx, model, id)
		return jsonResponse(http.StatusOK, job), err
	})
}

// batchLogs answers GET /v2/models/{model}/batch/{uuid}/logs.
func (s *Server) batchLogs(ctx context.Context, r *request) response {
	return s.batch(ctx, r, func(model, id string) (response, error) {
		logs, err := s.cfg.Batches.Logs(ctx, model, id)
		return response{status: http.StatusOK, contentType: textType, body: logs}, err
	})
}

// batch answers a request for the batch predictions of a model.
func (s *Server) batch(ctx context.Context, r *request, answer func(model, id string) (response, error)) response {
	if s.cfg.NoPredict {
		return s.paymentRequired(ctx, r)
	}
	m, err := s.model(ctx, r.model)
	switch {
	case err != nil:
	case s.cfg.Batches == nil && s.cfg.Elsewhere != "":
		err = actions.Errorf(actions.Unsupported, "there are no batch predictions here: %s", s.cfg.Elsewhere)
	case s.cfg.Batches == nil:
		err = actions.Errorf(actions.Unsupported, "this server runs no batch predictions")
	case len(r.uuid) > maxShown:
		err = actions.Errorf(actions.NotFound, "%s has no batch %q", m.Name, short(r.uuid))
	}
	var resp response
	if err == nil {
		resp, err = answer(m.Name, r.uuid)
	}
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	return resp
}

// batchActivation does what a value asks for whose only member is the type of an event: it begins a
// batch prediction, and answers its job, or it does one chunk of one. It is false for every other
// value, which is the model's.
func (s *Server) batchActivation(ctx context.Context, model string, a *activation) (resp response, done bool, err error) {
	if s.cfg.Batches == nil || a.kind != '{' || a.many || len(a.values) != 1 {
		return response{}, false, nil
	}
	request, isRequest := a.values[cloudevent.BatchRequested]
	chunk, isChunk := a.values[cloudevent.BatchChunk]
	if !isRequest && !isChunk {
		return response{}, false, nil
	}
	if begin := termsOf(ctx).begin; begin != nil {
		if err := begin(ctx); err != nil {
			return response{}, true, err
		}
	}
	if isRequest {
		resp, err = s.beginBatch(ctx, model, request)
	} else {
		resp, err = s.finishChunk(ctx, chunk)
	}
	return resp, true, err
}

// beginBatch begins a batch, of the model unless it names another.
func (s *Server) beginBatch(ctx context.Context, model string, raw json.RawMessage) (response, error) {
	b, err := actions.ParseBatch(raw)
	if err != nil {
		return response{}, err
	}
	if b.Model == "" {
		b.Model = model
	}
	job, err := s.cfg.Batches.Submit(ctx, b)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, job), nil
}

// finishChunk does a chunk of a batch.
func (s *Server) finishChunk(ctx context.Context, raw json.RawMessage) (response, error) {
	var c actions.Chunk
	if err := json.Unmarshal(raw, &c); err != nil {
		return response{}, actions.Errorf(actions.Invalid, "the chunk of a batch cannot be read: %s", err)
	}
	if err := s.cfg.Batches.Do(ctx, c); err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, map[string]bool{"done": true}), nil
}
