package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/deepfn/deepfn/actions"
)

// maxHost bounds the host memory that a child may claim, in bytes. No machine has as much.
const maxHost = 1 << 50

// A suspension is a child's answer to Suspend.
type suspension struct {
	HostBytes int64 `json:"host_bytes"`
}

// Suspend has the model leave the device's memory and stay in the host's. It returns how
// many bytes of the host's memory that takes, as the child says. It is called while there is
// no other call, and may be called again.
//
// The error is an *actions.Error, as that of Call. Unsupported says that the child has no
// such ability, or nothing to suspend: nothing has happened, and the worker is as warm as it
// was. After any other error nobody knows where the model is, and the worker is to be closed.
func (w *Worker) Suspend(ctx context.Context) (host int64, err error) {
	resp, err := w.Call(ctx, actions.Request{Verb: actions.Suspend})
	if err != nil {
		return 0, err
	}
	var s suspension
	if err := json.Unmarshal(resp.Data, &s); err != nil || s.HostBytes < 0 || s.HostBytes > maxHost {
		_, failure := w.garbled(fmt.Errorf("an answer to suspend that cannot be: %.100q", resp.Data))
		return 0, failure
	}
	return s.HostBytes, nil
}

// Resume brings a suspended model back into the device's memory. That of a worker that is
// not suspended does nothing. It is called while there is no other call.
//
// The error is an *actions.Error, as that of Call. After Unavailable from a worker that
// lives, it is suspended still, and may be resumed later: the device had no room. After any
// other error the worker is to be closed.
func (w *Worker) Resume(ctx context.Context) error {
	_, err := w.Call(ctx, actions.Request{Verb: actions.Resume})
	return err
}

// ofPool says that no caller has asked for a verb, and so that none is told what is printed
// meanwhile: those lines go to the log.
func ofPool(verb actions.Verb) bool { return verb == actions.Suspend || verb == actions.Resume }
