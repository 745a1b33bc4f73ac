package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const (
	// firstLook is the time until a training is looked at; it grows to lastLook.
	firstLook = 100 * time.Millisecond
	lastLook  = 5 * time.Second
	// cancelTime bounds the cancelling of a training. A worker is killed when it takes
	// longer than its CancelGrace.
	cancelTime = 3 * time.Second
)

// A training is what the server says of one.
type training struct {
	UUID    string          `json:"uuid"`
	Status  string          `json:"status"`
	Message string          `json:"message"`
	Result  json.RawMessage `json:"result"`
}

// train starts a training, and answers its result when it is done. When ctx ends, the
// training is cancelled.
func (p *Program) train(ctx context.Context, s *server, req *actions.Request) (actions.Response, error) {
	out, err := p.newRequest(req, p.routes.train)
	if err != nil {
		return actions.Response{}, err
	}
	t, err := p.trainingOf(p.send(ctx, s, http.MethodPost, s.route("train/"), out))
	if err != nil {
		return actions.Response{}, err
	}
	if t.UUID == "" {
		return actions.Response{}, actions.Errorf(actions.Failed, "the server has started a training without an id")
	}
	address := s.route("train/" + url.PathEscape(t.UUID))
	for pause := firstLook; t.Status == "running" || t.Status == ""; pause = min(pause*3/2, lastLook) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return actions.Response{}, p.cancelTraining(ctx, s, address)
		case <-timer.C:
		}
		next, err := p.lookAt(ctx, s, address)
		if err != nil && ctx.Err() != nil {
			return actions.Response{}, p.cancelTraining(ctx, s, address)
		}
		if err != nil {
			return actions.Response{}, err
		}
		t = next
	}
	return t.response()
}

// lookAt asks how a training is.
func (p *Program) lookAt(ctx context.Context, s *server, address string) (training, error) {
	r, err := s.do(ctx, http.MethodGet, address, &outgoing{}, p.limit)
	if err != nil {
		if _, ok := errors.AsType[*actions.Error](err); !ok && ctx.Err() == nil {
			err = s.lost(err)
		}
		return training{}, err
	}
	return p.trainingOf(r, nil)
}

// trainingOf reads a training from an answer.
func (p *Program) trainingOf(r *reply, err error) (training, error) {
	if err == nil {
		err = r.failure()
	}
	if err != nil {
		return training{}, err
	}
	var t training
	if err := json.Unmarshal(r.body, &t); err != nil {
		return training{}, actions.Errorf(actions.Failed, "the server's answer is not a training: %s", excerpt(r.body))
	}
	return t, nil
}

// cancelTraining cancels a training and returns why.
func (p *Program) cancelTraining(ctx context.Context, s *server, address string) error {
	code, what := actions.Canceled, "the training was canceled"
	if expired(ctx) {
		code, what = actions.Deadline, "the training took longer than it was allowed to"
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	// A server that does not take it goes on; nobody waits for the result.
	_, _ = s.do(clean, http.MethodDelete, address, &outgoing{}, p.limit)
	return actions.Errorf(code, "%s: %w", what, ctx.Err())
}

// response makes the response of a training that has ended.
func (t *training) response() (actions.Response, error) {
	switch t.Status {
	case "done", "completed": // what DEEPaaS says, and what it says that it says
	case "error":
		if t.Message == "" {
			t.Message = "the training failed"
		}
		return actions.Response{}, actions.Errorf(actions.Failed, "%s", short(t.Message))
	case "cancelled":
		return actions.Response{}, actions.Errorf(actions.Failed, "somebody has cancelled the training in the server")
	default:
		return actions.Response{}, actions.Errorf(actions.Failed, "the server says %q of the training", t.Status)
	}
	result := t.Result
	var wrapped map[string]json.RawMessage
	if json.Unmarshal(result, &wrapped) == nil && wrapped["output"] != nil {
		result = wrapped["output"]
	}
	if len(result) == 0 {
		result = json.RawMessage("null")
	}
	return actions.Response{ContentType: jsonType, Data: bytes.Clone(result)}, nil
}

// parseTrain answers the arguments of a training as they were given: the server would
// parse them only to train.
func parseTrain(req *actions.Request) (actions.Response, error) {
	args := map[string]any{}
	put := func(name string, value any) {
		switch before := args[name].(type) {
		case nil:
			args[name] = value
		case []any:
			args[name] = append(before, value)
		default:
			args[name] = []any{before, value}
		}
	}
	for _, t := range req.Texts {
		if t.Origin == actions.FromQuery || t.Origin == actions.FromForm {
			put(t.Name, t.Value)
		}
	}
	for _, f := range req.Files {
		put(f.Name, map[string]string{"filename": f.Filename, "content_type": f.ContentType})
	}
	if len(req.Args) > 0 {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(req.Args, &members); err != nil {
			return actions.Response{}, actions.Errorf(actions.Invalid, "the arguments are not a JSON object: %w", err)
		}
		for name, value := range members {
			args[name] = value
		}
	}
	b, err := json.Marshal(args)
	if err != nil {
		return actions.Response{}, actions.Errorf(actions.Internal, "http: arguments: %w", err)
	}
	return actions.Response{ContentType: jsonType, Data: b}, nil
}
