package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
	"github.com/deepfn/deepfn/deploy"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/sink"
)

// whiskScheme begins the name of an action of OpenWhisk, openwhisk:/NAMESPACE/ACTION.
const whiskScheme = "openwhisk:"

// resolveThrough fills in from the environment who may do chunks, and checks it.
func (b *batchSettings) resolveThrough(f *pflag.FlagSet, getenv func(string) string) error {
	if !f.Changed("batch-through") {
		b.through = strings.Fields(getenv("DEEPFN_BATCH_THROUGH"))
	}
	for _, text := range b.through {
		if _, _, ok := whiskAction(text); !ok {
			return usageError{fmt.Errorf("--batch-through %s: want openwhisk:/NAMESPACE/ACTION", text)}
		}
	}
	return nil
}

// whiskAction is the action, [package/]name of a namespace, that openwhisk:/NAMESPACE/… names.
func whiskAction(through string) (namespace, action string, ok bool) {
	path, is := strings.CutPrefix(through, whiskScheme+"/")
	namespace, action, cut := strings.Cut(path, "/")
	return namespace, action, is && cut && namespace != "" && action != "" && strings.Count(action, "/") < 2 && !strings.HasSuffix(action, "/")
}

// chunkTime is the most time of one try to hand a chunk out as an event: as long as Knative's
// channel in memory gives those who do it. The Brokers on that channel accept an event when it is
// done, and when the sender leaves they break off what does it.
const chunkTime = 15 * time.Minute

// openChunks opens what sends the events of chunks. There are no dead letters: a chunk that no
// broker takes is handed out again.
func (srv *server) openChunks(r *running) (*sink.Sink, error) {
	s := srv.Sink
	s.DeadLetter, s.Timeout = "", chunkTime
	return s.Open(r.storage.Poster, r.log)
}

// A dispatcher hands chunks of batches out: as events to a URL, or as activations of an action.
type dispatcher struct {
	sink     proxy.Sink // nil without one
	allowed  []string   // actions that callers may name
	platform platform

	mu     sync.Mutex // guards client
	client *deploy.Client
}

// connect returns the client of the OpenWhisk that the environment names.
func (d *dispatcher) connect(ctx context.Context) (*deploy.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil {
		client, err := d.platform.connect(ctx)
		if err != nil {
			return nil, err
		}
		d.client = client
	}
	return d.client, nil
}

// check says whether a caller may have chunks done there.
func (d *dispatcher) check(through string) error {
	switch {
	case strings.HasPrefix(through, whiskScheme):
		if !slices.Contains(d.allowed, through) {
			return actions.Errorf(actions.Forbidden, "chunks are not done through %.200q: the operator of the server allows that with --batch-through", through)
		}
		return nil
	case d.sink == nil:
		return actions.Errorf(actions.Unsupported, "this server sends no events; leave through out")
	}
	return d.sink.MaySend(through)
}

// dispatch hands a chunk out, and returns when it is accepted.
func (d *dispatcher) dispatch(ctx context.Context, through string, c actions.Chunk) error {
	if err := d.check(through); err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return actions.Errorf(actions.Internal, "a chunk: %w", err)
	}
	namespace, action, ok := whiskAction(through)
	if !ok {
		// Each has an id of its own: a chunk that is handed out again is to be done again.
		return d.sink.Send(ctx, through, &cloudevent.Event{
			ID: c.Job + "-" + strconv.Itoa(c.Index) + "-" + rand.Text(), Source: "/batch/" + c.Job, Type: cloudevent.BatchChunk, Subject: c.Job,
			DataContentType: jsonMediaType, Data: data,
		})
	}
	client, err := d.connect(ctx)
	if err != nil {
		return err
	}
	args, err := json.Marshal(map[string]json.RawMessage{cloudevent.BatchChunk: data})
	if err != nil {
		return actions.Errorf(actions.Internal, "a chunk: %w", err)
	}
	return client.Start(ctx, namespace, action, args)
}
