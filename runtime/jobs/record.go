package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	recordVersion = 1
	maxRecord     = 16 << 20 // bytes of a record
	maxShown      = 8 << 20  // bytes of the arguments in it
	maxMessage    = 64 << 10 // bytes of an error in it
)

// A record is what job.json holds.
type record struct {
	Version int         `json:"version"`
	Job     actions.Job `json:"job"` // without Result
	Result  *resultFile `json:"result,omitempty"`
}

// A resultFile says what the file result is.
type resultFile struct {
	ContentType string `json:"content_type"`
	Filename    string `json:"filename"`
	Size        int64  `json:"size"`
	// JSON says that the bytes are a JSON value, which is the job's Result.
	JSON bool `json:"json"`
}

// parseRecord reads the record of the job id. It believes nothing: others may write there.
func parseRecord(data []byte, id string) (record, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return record{}, err
	}
	if version.Version != recordVersion {
		return record{}, fmt.Errorf("its version is %d, this program knows %d", version.Version, recordVersion)
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, err
	}
	return rec, rec.check(id)
}

func (rec *record) check(id string) error {
	job := &rec.Job
	if job.ID != id {
		return fmt.Errorf("it is that of job %.40q", job.ID)
	}
	switch job.State {
	case actions.JobQueued, actions.JobRunning, actions.JobDone, actions.JobFailed,
		actions.JobCancelled, actions.JobInterrupted:
	default:
		return fmt.Errorf("unknown state %.40q", job.State)
	}
	if job.Model == "" || job.Created.IsZero() || len(job.Result) > 0 {
		return fmt.Errorf("it has no model, no time, or a result where none must be")
	}
	if !isObject(job.Args) {
		return fmt.Errorf("its arguments are no JSON object")
	}
	if p := job.Progress; p != nil && !(p.Fraction >= 0 && p.Fraction <= 1) {
		return fmt.Errorf("a progress of %v", p.Fraction)
	}
	if r := rec.Result; r != nil && (r.Size < 0 || job.State != actions.JobDone) {
		return fmt.Errorf("a result of %d bytes in state %s", r.Size, job.State)
	}
	return nil
}

// describe is the Result of a job whose result is not shown itself.
func (r *resultFile) describe() json.RawMessage {
	data, err := json.Marshal(struct {
		ContentType string `json:"content_type"`
		Filename    string `json:"filename"`
		Size        int64  `json:"size"`
	}{r.ContentType, r.Filename, r.Size})
	if err != nil {
		return nil // strings and a number always can be
	}
	return data
}

// describeResponse says what the file of a response will be.
func describeResponse(resp *actions.Response) *resultFile {
	return &resultFile{
		ContentType: resp.ContentType,
		Filename:    resp.Filename,
		Size:        int64(len(resp.Data)),
		// An answer without a media type may be JSON.
		JSON: (resp.ContentType == "" || actions.IsJSON(resp.ContentType)) && json.Valid(resp.Data),
	}
}

func isObject(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte{'{'}) && json.Valid(data)
}

// isID says whether s is the id of a job, and thereby the name of its folder.
func isID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
