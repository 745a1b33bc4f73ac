package proxy

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// An Invoker runs requests. Many may call it at the same time.
type Invoker interface {
	// Invoke runs one request and returns when ctx ends at the latest. The request's
	// bytes are the caller's again when it returns or panics, so the answer must not
	// share memory with them, and no goroutine may read them any longer. An answer whose media type is application/json is valid JSON.
	Invoke(ctx context.Context, req actions.Request) (actions.Response, error)
	// Info returns, as JSON, what the runtime reported of the loaded model; nil
	// before the model's first start.
	Info(model string) json.RawMessage
	// Stats returns the state of each model's instances.
	Stats() []actions.PoolStats
}

// A Catalog knows the models. Many may call it at the same time.
type Catalog interface {
	// Models returns all models.
	Models(ctx context.Context) ([]actions.Model, error)
	// Model returns one model, or an actions.Error NotFound that says which there are.
	Model(ctx context.Context, name string) (actions.Model, error)
	// Import makes a model of code, which Model knows from then on. The source's bytes
	// are the caller's again when it returns.
	Import(ctx context.Context, source actions.Source) (actions.Model, error)
}

// Jobs are invocations that outlive their request. Many may call it at the same time.
// What is asked of an unknown one is an actions.Error NotFound.
type Jobs interface {
	// Submit starts a training. shown are its arguments as its status shows them. The
	// request's bytes are the caller's again when it returns.
	Submit(ctx context.Context, req actions.Request, shown json.RawMessage) (actions.Job, error)
	// List returns the jobs of a model, the oldest first.
	List(ctx context.Context, model string) ([]actions.Job, error)
	// Job returns one job.
	Job(ctx context.Context, model, id string) (actions.Job, error)
	// Cancel ends a job, for which it waits up to 5 s, and removes its record. It
	// returns the job as it ended.
	Cancel(ctx context.Context, model, id string) (actions.Job, error)
	// Logs returns what the model printed in a job.
	Logs(ctx context.Context, model, id string) ([]byte, error)
}

// A Sink takes events that are no answer to a request. Many may call it at the same time.
type Sink interface {
	// Configured says whether there is a sink for events that name none.
	Configured() bool
	// MaySend says whether an event may be sent to a URL, as far as that is known without asking
	// anybody: nil, Invalid or Forbidden. Empty is the sink of the configuration.
	MaySend(to string) error
	// Send delivers an event to a URL, or to the sink of the configuration when to is empty,
	// and tries again as long as that may help; then it goes to the dead-letter sink. With
	// an error nobody has it. The event's bytes are the caller's again when it returns.
	Send(ctx context.Context, to string, e *cloudevent.Event) error
}

// Batches are batch predictions. Many may call it at the same time. What is asked of an
// unknown one is an actions.Error NotFound.
type Batches interface {
	// Submit checks a batch and begins it.
	Submit(ctx context.Context, b actions.Batch) (actions.Job, error)
	// Do does one chunk of a batch and returns when it is committed. The error is Invalid for
	// what will fail again, and Unavailable for what may not.
	Do(ctx context.Context, c actions.Chunk) error
	// List returns the batches of a model, the oldest first, Job returns one, Cancel ends one
	// and removes its record, Logs returns what it said.
	List(ctx context.Context, model string) ([]actions.Job, error)
	Job(ctx context.Context, model, id string) (actions.Job, error)
	Cancel(ctx context.Context, model, id string) (actions.Job, error)
	Logs(ctx context.Context, model, id string) ([]byte, error)
}

// Config says what a Server serves. Invoker and Catalog are required.
type Config struct {
	Invoker Invoker
	Catalog Catalog

	// Model is the name of the model that this function is. When it is empty, /init
	// decides; the DEEPaaS API serves every model of the catalog either way.
	Model string
	// Ready says whether the server can predict: nil, or the reason why not, which
	// /readyz shows. The default is always.
	Ready func() error
	// Warm makes a model ready. /init calls it for the chosen model, so that it answers
	// 200 only when /run can predict. Nil is not called.
	Warm func(ctx context.Context, model string) error

	// Jobs runs trainings. Nil means that no model can be trained over DEEPaaS.
	Jobs Jobs
	// Batches are batch predictions. Nil means that there are none.
	Batches Batches
	// Sink takes the answers to events that do not go to their sender, and the events of
	// batches. Nil means that there is none.
	Sink Sink
	// Controller is the OpenWhisk behind /api/v1/. Nil means that there is none, which the
	// routes say.
	Controller Controller
	// Elsewhere says where the API and trainings are, for a server that has neither. Empty
	// leaves it to what each route says.
	Elsewhere string
	// Actions has the models that Activate runs, those of Controller's actions, which may be
	// more than Catalog's. Nil means Catalog.
	Actions Catalog
	// Devices returns the devices that instances are on, for /metrics and /stats. Nil means
	// that there are none.
	Devices func() []actions.DeviceStats
	// Tracer records a span of each request but those for health and metrics. Nil means that
	// a request's trace context goes on to the model as it came.
	Tracer Tracer
	// Storage has arguments and results that are given by reference. Nil means that
	// nothing can be.
	Storage Storage
	// Entry is the single entrypoint at /, the contract of OpenWhisk for Knative.
	Entry Entry
	// Service is the name of the service that this server is, K_SERVICE of Knative, which the
	// source of its events begins with. May be empty.
	Service string
	// EventRecord is how many events, EventRecordBytes how many bytes of answers and
	// EventRecordAge how long they are kept, so that an event that comes again gets the
	// answer that it has got. The defaults are 10,000, 64 MiB and 10 minutes; a negative
	// EventRecord means that each is answered anew.
	EventRecord      int
	EventRecordBytes int64
	EventRecordAge   time.Duration
	// EventResults is a URL, which ends in "/", that answers to notifications of buckets are
	// stored below, under the name of their object with ".json". Empty means that the answer
	// is in the event.
	EventResults string
	// BasePath is the path that the routes of DEEPaaS and the page are below, "/a/b".
	// /init, /run, /healthz, /readyz and /metrics stay at the root. The default is none.
	BasePath string
	// NoPredict and NoTrain turn these endpoints off, which DEEPaaS answers with 402.
	NoPredict, NoTrain bool
	// NoDocs turns the page /api off.
	NoDocs bool
	// Debug shows the last MiB of what models printed to everybody who asks /v2/debug/.
	Debug bool

	// MaxBody is the most bytes that a request's body may have. The default is 48 MiB.
	MaxBody int64
	// MaxBodies is the most memory that requests in progress may take together: their
	// bodies up to 8 MiB, or a quarter of this, each, the texts of forms, and the files
	// that are decoded from base64 in JSON. Without memory a body goes to the disk, as
	// longer ones do; what has to be decoded is refused as busy. MaxBody is the least.
	// The default is a quarter of the memory that the control group allows, else 1 GiB.
	MaxBodies int64
	// TempDir is the folder for bodies over 8 MiB while their requests last; each takes
	// MaxBody bytes at most. The default is the system's.
	TempDir string
	// MaxConns is the most connections that are open at one time. At the limit the one
	// that has been idle for longest is closed for a new one, then the oldest that has
	// sent nothing; when all have requests, the new one is answered 503 and closed. The
	// default is the soft limit of open files less 256, 64 at least and 65536 at most.
	MaxConns int
	// MaxPayload is OpenWhisk's limit, in bytes, of the result of a /run and of the
	// arguments and the result of an activation or a web action under /api/v1/. What is over it is answered with an error that
	// names the way by reference. Zero means no limit.
	MaxPayload int64
	// DeadlineMargin is how long before the platform's deadline /run and /init answer by
	// themselves, though never more than a tenth of the time that is left. The default
	// is 100 ms.
	DeadlineMargin time.Duration
	// Grace is how long requests in flight may go on after Serve's context has ended.
	// The default is 30 s; a negative value means that they are given up at once.
	Grace time.Duration

	// Stdout and Stderr take what models print during an activation, and the line that
	// ends it. A write is one activation's; a Flush method is called after it. An answer
	// waits for that up to a second; what a stream does not take then is written later,
	// up to 16 MiB. Nil discards.
	Stdout, Stderr io.Writer
	// Log takes one line per invocation, and over DEEPaaS what the model printed: at Warn
	// if the call failed by its fault or the server's, else at Info. What it writes to Stdout or Stderr becomes part
	// of an activation's logs. Nil discards.
	Log *slog.Logger
	// Version is the program's version, for /healthz and /metrics.
	Version string
}

func (c Config) withDefaults() Config {
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Devices == nil {
		c.Devices = func() []actions.DeviceStats { return nil }
	}
	if c.Actions == nil {
		c.Actions = c.Catalog
	}
	if c.MaxBody <= 0 {
		c.MaxBody = 48 << 20
	}
	if c.MaxBodies <= 0 {
		c.MaxBodies = defaultBodies(MemoryLimit(os.DirFS("/")))
	}
	c.MaxBodies = max(c.MaxBodies, c.MaxBody)
	if c.MaxConns <= 0 {
		c.MaxConns = defaultConns()
	}
	if c.DeadlineMargin <= 0 {
		c.DeadlineMargin = 100 * time.Millisecond
	}
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	if c.EventRecord == 0 {
		c.EventRecord = defaultRecord
	}
	if c.EventRecordBytes <= 0 {
		c.EventRecordBytes = defaultRecordBytes
	}
	if c.EventRecordAge <= 0 {
		c.EventRecordAge = defaultRecordAge
	}
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
