package workertest

import (
	"context"
	"os"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

// A TierFault is something that goes wrong when the child is to suspend or resume.
type TierFault string

// The faults of Tiers.
const (
	// TierFails answers an error, after which nobody knows where the model is.
	TierFails TierFault = "fails"
	// TierFull answers Unavailable, and the child is where it was.
	TierFull TierFault = "full"
	// TierLies answers something that is no answer to suspend.
	TierLies TierFault = "lies"
	// TierHangs does nothing for ever, and takes no notice of the context or of SIGTERM.
	TierHangs TierFault = "hangs"
	// TierDies ends the process with status 5.
	TierDies TierFault = "dies"
)

// Tiers say what the child does when it is asked to suspend or resume. A child without them
// has no such ability.
type Tiers struct {
	// HostBytes is how much of the host's memory the child says that it takes, suspended.
	HostBytes int64 `json:"host_bytes,omitempty"`
	// SuspendMS and ResumeMS are how many milliseconds each takes.
	SuspendMS int `json:"suspend_ms,omitempty"`
	ResumeMS  int `json:"resume_ms,omitempty"`
	// SuspendUntil and ResumeUntil have each wait until the file of that name exists.
	SuspendUntil string `json:"suspend_until,omitempty"`
	ResumeUntil  string `json:"resume_until,omitempty"`
	// Print is a line that each prints to stdout.
	Print string `json:"print,omitempty"`
	// Suspend and Resume are what goes wrong, FaultIf the file that has to exist for that;
	// empty means always.
	Suspend TierFault `json:"suspend,omitempty"`
	Resume  TierFault `json:"resume,omitempty"`
	FaultIf string    `json:"fault_if,omitempty"`
}

// A place is where the model of a child is.
type place struct {
	tiers *Tiers // nil without the ability

	mu        sync.Mutex // guards the rest
	suspended bool
	resumes   int
}

// move does what suspend or resume says.
func (p *place) move(verb actions.Verb) (actions.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moveLocked(verb)
}

func (p *place) moveLocked(verb actions.Verb) (actions.Response, error) {
	if p.tiers == nil {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "the child cannot %s", verb)
	}
	to := verb == actions.Suspend
	if to == p.suspended {
		return p.told()
	}
	t := p.tiers
	fault, until, ms := t.Resume, t.ResumeUntil, t.ResumeMS
	if to {
		fault, until, ms = t.Suspend, t.SuspendUntil, t.SuspendMS
	}
	if t.Print != "" {
		_, _ = os.Stdout.WriteString(t.Print + "\n")
	}
	pause(context.Background(), ms)
	if until != "" {
		await(until)
	}
	if t.FaultIf == "" || exists(t.FaultIf) {
		if resp, err := fault.happen(verb); resp.Data != nil || err != nil {
			return resp, err
		}
	}
	p.suspended = to
	if !to {
		p.resumes++
	}
	return p.told()
}

// told is the answer of a child that is where it was to be.
func (p *place) told() (actions.Response, error) {
	if !p.suspended {
		return answer(map[string]int64{"host_bytes": 0})
	}
	return answer(map[string]int64{"host_bytes": p.tiers.HostBytes})
}

// ensure resumes a child that is asked for something else.
func (p *place) ensure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.suspended {
		return nil
	}
	_, err := p.moveLocked(actions.Resume)
	return err
}

// resumed returns how often the child has resumed.
func (p *place) resumed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resumes
}

// happen does what a fault says. With neither a response nor an error there is none.
func (f TierFault) happen(verb actions.Verb) (actions.Response, error) {
	switch f {
	case TierFails:
		return actions.Response{}, actions.Errorf(actions.Failed, "the %s fails", verb)
	case TierFull:
		return actions.Response{}, actions.Errorf(actions.Unavailable, "no room to %s", verb)
	case TierLies:
		return actions.Response{ContentType: "application/json", Data: []byte(`{"host_bytes":-1}`)}, nil
	case TierHangs:
		hang()
	case TierDies:
		os.Exit(5)
	}
	return actions.Response{}, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
