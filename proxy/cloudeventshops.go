package proxy

import (
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

const (
	// hops is the attribute of an answer to an answer that says how many of them there were
	// before it.
	hops = "deepfnhops"
	// maxHops is how many there may be. Models one after the other have fewer; an answer that
	// comes back to the model it is of, because its sink leads there, has more before long.
	maxHops = 16
	// maxExtensions is how many extensions an event may have, so that an answer, which has its
	// own beside them, is one that can be read.
	maxExtensions = 100
)

// hopsOf is what the attribute of an answer to an event says: 0, for which there is none, unless
// the event is an answer itself.
func hopsOf(e *cloudevent.Event) int {
	if !strings.HasPrefix(e.Type, "dev.deepfn.") || isWork(e.Type) {
		return 0
	}
	n, _ := strconv.Atoi(e.Extension(hops)) // no number is none
	return max(0, min(n, maxHops)) + 1
}

// mayAnswer says why there is no answer to an event, whatever is in it.
func mayAnswer(e *cloudevent.Event) error {
	switch {
	case len(e.Extensions) > maxExtensions:
		return actions.Errorf(actions.Invalid, "the event has more than %d extensions", maxExtensions)
	case hopsOf(e) > maxHops:
		return actions.Errorf(actions.Invalid,
			"the event is the answer to an answer, and so on, more than %d times: see whether the place that answers go to sends them here again", maxHops)
	}
	return nil
}
