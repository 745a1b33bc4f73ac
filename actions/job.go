package actions

import (
	"encoding/json"
	"time"
)

// A JobState is where a Job is in its life.
type JobState string

// The states of a Job. The last four are final.
const (
	// JobQueued: it waits for its turn, or for its worker to load the model.
	JobQueued JobState = "queued"
	// JobRunning: its worker works on it.
	JobRunning JobState = "running"
	// JobDone: there is a result.
	JobDone JobState = "done"
	// JobFailed: the model raised an error, or its worker ended.
	JobFailed JobState = "error"
	// JobCancelled: somebody cancelled it.
	JobCancelled JobState = "cancelled"
	// JobInterrupted: the server ended while it ran.
	JobInterrupted JobState = "interrupted"
)

// Final says whether the state is the last.
func (s JobState) Final() bool {
	switch s {
	case JobDone, JobFailed, JobCancelled, JobInterrupted:
		return true
	case JobQueued, JobRunning:
		return false
	}
	return false
}

// A Job is an invocation that outlives its request.
type Job struct {
	// ID is 32 hexadecimal digits.
	ID    string `json:"id"`
	Model string `json:"model"`
	Verb  Verb   `json:"verb"`
	// Args are the arguments as they are shown, one JSON object.
	Args  json.RawMessage `json:"args"`
	State JobState        `json:"state"`
	// Created, Started and Finished are zero before they happened.
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Attempts is how often it was begun: more than once when servers ended while it ran and
	// another one went on with it. Started is the first time.
	Attempts int `json:"attempts,omitempty"`
	// Progress is what the model last reported; nil when it reports none.
	Progress *Progress `json:"progress,omitempty"`
	// Result is what the model returned, JSON; a result that is not JSON is
	// {"content_type", "filename", "size"} and its bytes are kept beside the record.
	Result json.RawMessage `json:"result,omitempty"`
	// Error says why it failed.
	Error string `json:"error,omitempty"`
}

// Progress is how far a job has come. What a model reports has no rows.
type Progress struct {
	// Fraction is between 0 and 1.
	Fraction float64 `json:"fraction"`
	// Text is what the model says beside it; may be empty.
	Text string `json:"text,omitempty"`
	// Rows are those of a batch prediction that are done, Failed of them with an error, Total
	// how many there are, 0 while nobody knows. Chunks are the parts that are committed, Redone
	// how many were begun again because whoever did them ended.
	Rows   int64 `json:"rows,omitempty"`
	Failed int64 `json:"failed,omitempty"`
	Total  int64 `json:"total,omitempty"`
	Chunks int   `json:"chunks,omitempty"`
	Redone int   `json:"redone,omitempty"`
	// Rate is rows in a second, of late; Remaining the seconds to the end at that rate. Zero
	// means unknown.
	Rate      float64 `json:"rate,omitempty"`
	Remaining float64 `json:"remaining_seconds,omitempty"`
	// Time is when it was reported.
	Time time.Time `json:"time"`
}
