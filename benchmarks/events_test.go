package benchmarks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// eventsOfBatch is how many events a batch has.
const eventsOfBatch = 1000

// The models of BenchmarkEvents: a plain function of one event, and one of a list of them.
const (
	plainModel = "def main(args):\n    return {\"n\": args[\"n\"] + 1}\n"
	rowsModel  = "def predict(rows: list):\n    return [{\"n\": row[\"n\"] + 1} for row in rows]\n"
)

// BenchmarkEvents is one client that sends events to two receivers in turns, ours and that of
// the Go SDK (client.StartReceiver), which have the same Python worker behind the same pool:
// in both an event is one call of the model, and the answer an event. In "batch" ours gets a
// thousand events in one request, and the SDK's, which has no batched mode, each in its own.
func BenchmarkEvents(b *testing.B) {
	plain := actions.Model{Name: "plain", Runtime: actions.Python}
	rows := actions.Model{Name: "rows", Runtime: actions.Python, Batching: actions.Batching{Argument: "rows", Size: eventsOfBatch}}
	b.Run("single/binary", func(b *testing.B) { benchmarkEvents(b, plain, plainModel, false, 1) })
	b.Run("single/structured", func(b *testing.B) { benchmarkEvents(b, plain, plainModel, true, 1) })
	b.Run("batch/function", func(b *testing.B) { benchmarkEvents(b, plain, plainModel, false, eventsOfBatch) })
	b.Run("batch/vectorised", func(b *testing.B) { benchmarkEvents(b, rows, rowsModel, false, eventsOfBatch) })
}

// benchmarkEvents sends n events at a time to ours, and one to the SDK's.
func benchmarkEvents(b *testing.B, m actions.Model, source string, structured bool, n int) {
	b.Helper()
	pool := pythonPool(b, m, source)
	ours := newEventClient(b, startEvents(b, m, pool), structured, n)
	peer := newEventClient(b, startReceiver(b, m, pool), structured, 1)
	for range 50 {
		peer.send(b)
	}
	for range 1 + 50/n {
		ours.send(b)
	}
	var a, z []time.Duration
	var ourCPU, peerCPU time.Duration
	turns := max(1, 50/n) // the processors' time is counted in ticks
	for b.Loop() {
		began := processorTime(b, os.Getpid())
		for range turns {
			a = append(a, ours.send(b))
		}
		between := processorTime(b, os.Getpid())
		for range max(turns, 100) {
			z = append(z, peer.send(b))
		}
		ourCPU, peerCPU = ourCPU+between-began, peerCPU+processorTime(b, os.Getpid())-between
	}
	b.ReportMetric(float64(ourCPU.Nanoseconds())/1e3/float64(len(a)*n), "cpu-µs/event")
	b.ReportMetric(float64(peerCPU.Nanoseconds())/1e3/float64(len(z)), "peer-cpu-µs/event")
	our, their := median(a)/time.Duration(n), median(z)
	b.ReportMetric(float64(our.Nanoseconds())/1e3, "p50-µs/event")
	b.ReportMetric(float64(their.Nanoseconds())/1e3, "peer-p50-µs/event")
	b.ReportMetric(float64(their)/float64(our), "times-faster")
	b.ReportMetric(float64(total(z))/float64(len(z))*float64(len(a)*n)/float64(total(a)), "times-the-events/s")
}

// pythonPool is a pool of one worker of a model that is a file.
func pythonPool(b *testing.B, m actions.Model, source string) *invoker.Invoker {
	b.Helper()
	m.Dir = b.TempDir()
	if err := os.WriteFile(filepath.Join(m.Dir, "model.py"), []byte(source), 0o600); err != nil {
		b.Fatal(err)
	}
	python := os.Getenv("DEEPFN_TEST_PYTHON_CURRENT")
	if python == "" {
		b.Fatal("DEEPFN_TEST_PYTHON_CURRENT is not set: run make bench")
	}
	l, err := launcher.New(launcher.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	pool := invoker.New(invoker.Config{Catalog: only{m}, Start: func(ctx context.Context, m actions.Model, _ []string) (invoker.Instance, error) {
		w, err := l.Start(ctx, launcher.Run{Model: m, Spec: launcher.Spec{Path: "model.py"}, Python: python})
		if err != nil {
			return nil, err
		}
		return w, nil
	}})
	b.Cleanup(func() {
		_ = pool.Close(context.Background())
		_ = l.Close()
	})
	return pool
}

// only is the catalog of one model.
type only struct{ m actions.Model }

func (o only) Model(context.Context, string) (actions.Model, error) { return o.m, nil }

func (o only) Models(context.Context) ([]actions.Model, error) { return []actions.Model{o.m}, nil }

func (only) Import(context.Context, actions.Source) (actions.Model, error) {
	return actions.Model{}, actions.Errorf(actions.Unsupported, "no code is taken here")
}

// startEvents starts our receiver and returns its URL.
func startEvents(b *testing.B, m actions.Model, pool *invoker.Invoker) string {
	b.Helper()
	front := proxy.New(proxy.Config{Invoker: pool, Catalog: only{m}, Model: m.Name})
	return listening(b, front.Serve)
}

// startReceiver starts the SDK's receiver with a function that calls the model.
func startReceiver(b *testing.B, m actions.Model, pool *invoker.Invoker) string {
	b.Helper()
	return listening(b, func(ctx context.Context, ln net.Listener) error {
		protocol, err := sdk.NewHTTP(sdkhttp.WithListener(ln))
		if err != nil {
			return err
		}
		c, err := sdk.NewClient(protocol, sdk.WithTimeNow(), sdk.WithUUIDs())
		if err != nil {
			return err
		}
		return c.StartReceiver(ctx, func(ctx context.Context, in sdk.Event) (*sdk.Event, error) {
			args := in.Data()
			if m.Batching.Argument != "" {
				args = fmt.Appendf(nil, `{%q:[%s]}`, m.Batching.Argument, args)
			}
			resp, err := pool.Invoke(ctx, actions.Request{Model: m.Name, Verb: actions.Predict, ID: in.ID(), Args: args})
			if err != nil {
				return nil, err
			}
			out := sdk.NewEvent()
			out.SetSource("/models/" + m.Name)
			out.SetType("dev.deepfn.prediction")
			out.SetSubject(in.ID())
			return &out, out.SetData(sdk.ApplicationJSON, json.RawMessage(resp.Data))
		})
	})
}

// listening serves on a free port until the benchmark ends, and returns the URL.
func listening(b *testing.B, serve func(context.Context, net.Listener) error) string {
	b.Helper()
	var cfg net.ListenConfig
	ln, err := cfg.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	served := make(chan error, 1)
	go func() { served <- serve(ctx, ln) }() // ends with stop
	b.Cleanup(func() {
		stop()
		<-served
	})
	return "http://" + ln.Addr().String()
}

// An eventClient is a client whose every event is another one: its id is a number in the place
// of the marks.
type eventClient struct {
	*client
	next int
	at   []int // of the ids in the message
}

const idMark = "id-00000000"

// newEventClient dials a receiver, for one event in a mode, or a batch of several.
func newEventClient(b *testing.B, address string, structured bool, n int) *eventClient {
	b.Helper()
	event := `{"specversion":"1.0","id":"` + idMark + `","source":"/sensors/1","type":"com.example.reading","time":"2026-11-30T01:02:03Z","datacontenttype":"application/json","data":{"n":41}}`
	r := request{url: address + "/", contentType: sdk.ApplicationCloudEventsJSON, body: []byte(event), want: `{"n":`}
	if n > 1 {
		r.contentType = sdk.ApplicationCloudEventsBatchJSON
		r.body = []byte("[" + event + string(bytes.Repeat([]byte(","+event), n-1)) + "]")
	}
	c := &eventClient{client: dial(b, r)}
	c.answer = make([]byte, n*4<<10)
	if !structured && n == 1 {
		u, err := url.Parse(address)
		if err != nil {
			b.Fatal(err)
		}
		c.message = fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 8\r\n"+
			"Ce-Specversion: 1.0\r\nCe-Id: %s\r\nCe-Source: /sensors/1\r\nCe-Type: com.example.reading\r\nCe-Time: 2026-11-30T01:02:03Z\r\n\r\n%s",
			u.Host, idMark, `{"n":41}`)
	}
	for from := 0; ; {
		i := bytes.Index(c.message[from:], []byte(idMark))
		if i < 0 {
			break
		}
		c.at = append(c.at, from+i)
		from += i + len(idMark)
	}
	if len(c.at) != n {
		b.Fatalf("got %d events in the message, want %d", len(c.at), n)
	}
	return c
}

// send sends events that nobody has sent before.
func (c *eventClient) send(b *testing.B) time.Duration {
	b.Helper()
	for _, at := range c.at {
		c.next++
		copy(c.message[at:], fmt.Sprintf("id-%08d", c.next))
	}
	took := c.client.send(b)
	if got := bytes.Count(c.answer, []byte(`"type":"dev.deepfn.prediction"`)); len(c.at) > 1 && got < len(c.at) {
		b.Fatalf("got %d answers, want %d", got, len(c.at))
	}
	return took
}
