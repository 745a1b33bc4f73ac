package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

// train answers POST /v2/models/{model}/train/: the arguments are checked, and the
// training goes on when the answer has been sent.
func (s *Server) train(ctx context.Context, r *request) response {
	if s.cfg.NoTrain {
		return s.paymentRequired(ctx, r)
	}
	return s.deepaas(ctx, r, actions.Train, s.submit)
}

// submit makes a job of a training.
func (s *Server) submit(ctx context.Context, c *call, m actions.Model, r *request) (response, error) {
	if !m.ParsesArguments() {
		return s.predictions(ctx, c, m, r) // of which the invoker says that it cannot
	}
	if s.cfg.Jobs == nil && s.cfg.Elsewhere != "" {
		return response{}, actions.Errorf(actions.Unsupported, "%s cannot be trained here: %s", m.Name, s.cfg.Elsewhere)
	}
	if s.cfg.Jobs == nil {
		return response{}, actions.Errorf(actions.Unsupported, "%s cannot be trained: this server runs no trainings", m.Name)
	}
	if resp, err := s.readArguments(c, m, r); err != nil {
		return resp, err
	}
	c.request.Verb = actions.ParseTrain
	c.accept = "" // of the parsing; a training has no answer to choose
	defer func() { c.references.close() }()
	err := s.invoke(ctx, c, m)
	c.request.Verb = actions.Train
	if err != nil {
		return response{}, err
	}
	job, err := s.cfg.Jobs.Submit(ctx, c.request, object(c.response.Data))
	if err != nil {
		return response{}, err
	}
	if job.State == actions.JobQueued { // each is at first: the answer has no more than upstream's
		job.State = actions.JobRunning
	}
	return pageResponse(jobDocument(&job)), nil
}

// object is a JSON object, {} when raw is none.
func object(raw json.RawMessage) json.RawMessage {
	if scanMembers(raw, -1, func(s *jsonscan.Scanner, _ []byte) bool { return s.Value() }) != nil {
		return json.RawMessage("{}")
	}
	return raw
}

// trainings answers GET /v2/models/{model}/train/.
func (s *Server) trainings(ctx context.Context, r *request) response {
	return s.job(ctx, r, func(model, _ string) (response, error) {
		docs := []*document{} // a list also when it is empty
		if s.cfg.Jobs == nil {
			return pageResponse(docs), nil
		}
		jobs, err := s.cfg.Jobs.List(ctx, model)
		for i := range jobs {
			docs = append(docs, jobDocument(&jobs[i]))
		}
		return pageResponse(docs), err
	})
}

// training answers GET /v2/models/{model}/train/{uuid}.
func (s *Server) training(ctx context.Context, r *request) response {
	return s.job(ctx, r, func(model, id string) (response, error) {
		job, err := s.cfg.Jobs.Job(ctx, model, id)
		return pageResponse(jobDocument(&job)), err
	})
}

// cancelTraining answers DELETE /v2/models/{model}/train/{uuid}.
func (s *Server) cancelTraining(ctx context.Context, r *request) response {
	return s.job(ctx, r, func(model, id string) (response, error) {
		job, err := s.cfg.Jobs.Cancel(ctx, model, id)
		return pageResponse(jobDocument(&job)), err
	})
}

// trainingLogs answers GET /v2/models/{model}/train/{uuid}/logs.
func (s *Server) trainingLogs(ctx context.Context, r *request) response {
	return s.job(ctx, r, func(model, id string) (response, error) {
		logs, err := s.cfg.Jobs.Logs(ctx, model, id)
		return response{status: http.StatusOK, contentType: textType, body: logs}, err
	})
}

// job answers a request for the trainings of a model.
func (s *Server) job(ctx context.Context, r *request, answer func(model, id string) (response, error)) response {
	if s.cfg.NoTrain {
		return s.paymentRequired(ctx, r)
	}
	m, err := s.model(ctx, r.model)
	if err == nil && r.uuid != "" && (s.cfg.Jobs == nil || len(r.uuid) > maxShown) {
		err = actions.Errorf(actions.NotFound, "%s has no training %q", m.Name, short(r.uuid))
	}
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	resp, err := answer(m.Name, r.uuid)
	if err != nil {
		return s.refuse(ctx, r, err)
	}
	return resp
}

// queuedTime is how long a training waits before its status says so: the status of one
// that starts at once is never other than upstream's.
const queuedTime = time.Second

// jobDocument is the status of a training: DEEPaaS' members first, in its order.
func jobDocument(j *actions.Job) *document {
	doc := &document{}
	doc.set("date", pythonTime(j.Created))
	doc.set("args", object(j.Args))
	doc.set("uuid", j.ID)
	switch j.State {
	case actions.JobQueued: // for which DEEPaaS has no word
		doc.set("status", "running")
		if time.Since(j.Created) >= queuedTime {
			doc.set("queued", true)
		}
	case actions.JobRunning:
		doc.set("status", "running")
	case actions.JobDone:
		doc.set("status", string(j.State))
		doc.set("result", jobResult(j))
	case actions.JobFailed, actions.JobInterrupted:
		doc.set("status", string(j.State))
		doc.set("message", j.Error)
	case actions.JobCancelled:
		doc.set("status", string(j.State))
	}
	if p := j.Progress; p != nil {
		progress := &document{}
		progress.set("fraction", p.Fraction)
		progress.set("text", p.Text)
		doc.set("progress", progress)
	}
	return doc
}

func jobResult(j *actions.Job) *document {
	result := &document{}
	output := j.Result
	if !json.Valid(output) {
		output = json.RawMessage("null")
	}
	result.set("output", output)
	result.set("finish_date", pythonTime(j.Finished))
	began := j.Started
	if began.IsZero() {
		began = j.Created
	}
	result.set("duration", pythonDuration(j.Finished.Sub(began)))
	return result
}

// pythonTime writes a time as Python's str(datetime.now()) does, in local time.
func pythonTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000000") }

// pythonDuration writes a duration as Python's str(timedelta) does.
func pythonDuration(d time.Duration) string {
	d = max(d, 0).Truncate(time.Microsecond)
	const day = 24 * time.Hour
	days, rest := int(d/day), d%day
	text := fmt.Sprintf("%d:%02d:%02d", rest/time.Hour, rest%time.Hour/time.Minute, rest%time.Minute/time.Second)
	if micros := rest % time.Second / time.Microsecond; micros > 0 {
		text += fmt.Sprintf(".%06d", micros)
	}
	switch days {
	case 0:
		return text
	case 1:
		return "1 day, " + text
	}
	return fmt.Sprintf("%d days, %s", days, text)
}

// paymentRequired is what DEEPaaS answers where an endpoint of a model is turned off.
func (s *Server) paymentRequired(ctx context.Context, r *request) response {
	if _, err := s.model(ctx, r.model); err != nil {
		return s.refuse(ctx, r, err)
	}
	return plainStatus(http.StatusPaymentRequired)
}

// plainStatus answers with a status and nothing more, in the words of aiohttp.
func plainStatus(status int) response {
	return response{status: status, contentType: textType, body: fmt.Appendf(nil, "%d: %s", status, http.StatusText(status))}
}
