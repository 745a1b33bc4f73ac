package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/deepfn/deepfn/actions"
)

// Result returns the answer of a job that is done, with its bytes. The error is Conflict
// for a job in another state.
func (s *Jobs) Result(_ context.Context, model, id string) (actions.Response, error) {
	_, rec, err := s.find(model, id)
	if err != nil {
		return actions.Response{}, err
	}
	if rec.Result == nil {
		return actions.Response{}, actions.Errorf(actions.Conflict, "the job has no result, its state is %s", rec.Job.State)
	}
	data, err := s.store.result(&rec)
	if err != nil {
		return actions.Response{}, storeError(err)
	}
	return actions.Response{ContentType: rec.Result.ContentType, Filename: rec.Result.Filename, Data: data}, nil
}

// Logs returns what a job printed, with a line that says so where the middle was left out.
func (s *Jobs) Logs(_ context.Context, model, id string) ([]byte, error) {
	j, rec, err := s.find(model, id)
	if err != nil {
		return nil, err
	}
	var data []byte
	if j != nil {
		data, err = j.out.read()
	} else {
		data, err = s.store.readLog(rec.Job.ID, s.cfg.MaxLog)
	}
	if err != nil {
		return nil, storeError(err)
	}
	return data, nil
}

// size is how many bytes the result has.
func (rec *record) size() int64 {
	if rec.Result == nil {
		return 0
	}
	return rec.Result.Size
}

// shown is the job of a record with its result, if that is JSON and has at most limit
// bytes, or with a description of it. It is false if the job was removed meanwhile.
func (s *store) shown(rec record, limit int64) (actions.Job, bool) {
	job := rec.Job
	switch {
	case rec.Result == nil:
	case !rec.Result.JSON || rec.Result.Size > limit:
		job.Result = rec.Result.describe()
	default:
		data, err := s.result(&rec)
		if err == nil && !json.Valid(data) {
			err = errors.New("it is not JSON any more")
		}
		if errors.Is(err, fs.ErrNotExist) && !s.exists(job.ID) {
			return job, false
		}
		if err != nil {
			s.log.Warn("job result not read", "job", job.ID, "err", err)
			job.State, job.Error = actions.JobFailed, "the result cannot be read: "+reason(err)
			return job, true
		}
		job.Result = data
	}
	return job, true
}

// result reads the result of a job.
func (s *store) result(rec *record) ([]byte, error) {
	data, err := s.read(rec.Job.ID+"/"+resultName, rec.Result.Size)
	if err == nil && int64(len(data)) != rec.Result.Size {
		err = fmt.Errorf("it has %d bytes instead of %d", len(data), rec.Result.Size)
	}
	return data, err
}

// prune removes the oldest jobs that have ended, but for keep of each model; model "" means
// all models.
func (s *store) prune(model string, keep int) error {
	records, err := s.records(model)
	if err != nil || keep < 0 {
		return err
	}
	ended := map[string][]string{}
	for _, rec := range records {
		if rec.Job.State.Final() {
			ended[rec.Job.Model] = append(ended[rec.Job.Model], rec.Job.ID)
		}
	}
	var errs []error
	for _, ids := range ended {
		for _, id := range ids[:max(len(ids)-keep, 0)] {
			if !s.held(id) {
				errs = append(errs, s.remove(id))
			}
		}
	}
	return errors.Join(errs...)
}
