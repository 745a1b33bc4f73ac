package benchmarks

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// eventsOfBatch is how many events a batch has.
	eventsOfBatch = 1000
	// eventsOfRound is how many single events a client sends in a round: so few that other work
	// of the machine leaves many rounds alone.
	eventsOfRound = 50
)

// An eventsRun is one row of BenchmarkEvents.
type eventsRun struct {
	name       string
	model      string
	structured bool
	clients    int // at the same time, each on a connection of its own
	batch      int // how many events ours gets in one request
}

// BenchmarkEvents sends events to two receivers in turns, ours and that of the Go SDK
// (client.StartReceiver). Each is a process of its own, and has a worker of the same model behind
// the same pool: in both an event is one call of the model, and the answer an event. The model is a
// function in Python, which takes as long as a receiver does, and in "program" the same in Go. In
// "batch" ours gets a thousand events in one request, and the SDK's, which has no batched mode, each
// in its own.
//
// An iteration is a round: some events to the one, then as many to the other, and the next time
// the other way round. Beside the events per second of all rounds there are those of the rounds
// that a tenth keep to, and the median of the rounds' ratios, for machines that have other things
// to do; and the time that the processors worked for an event in the receiver and its worker.
func BenchmarkEvents(b *testing.B) {
	for _, run := range []eventsRun{
		{name: "single/binary", model: plainModel, clients: 1, batch: 1},
		{name: "single/structured", model: plainModel, structured: true, clients: 1, batch: 1},
		{name: "single/4-clients", model: plainModel, clients: 4, batch: 1},
		{name: "single/program", model: programModel, clients: 1, batch: 1},
		{name: "single/program-4-clients", model: programModel, clients: 4, batch: 1},
		{name: "batch/function", model: plainModel, clients: 1, batch: eventsOfBatch},
		{name: "batch/vectorised", model: rowsModel, clients: 1, batch: eventsOfBatch},
	} {
		b.Run(run.name, func(b *testing.B) { run.compare(b) })
	}
	b.Run("run", compareRun)
}

// compare is one row.
func (run eventsRun) compare(b *testing.B) {
	b.Helper()
	ours, peer := startReceiver(b, modeEvents, run.model), startReceiver(b, modeReceiver, run.model)
	for i := range run.clients {
		ours.clients = append(ours.clients, dialEvents(b, ours.address, i, run.structured, run.batch))
		peer.clients = append(peer.clients, dialEvents(b, peer.address, i, run.structured, 1))
	}
	compareReceivers(b, ours, peer)
	b.ReportMetric(ours.perEvent(ours.worked), "cpu-µs/event")
	b.ReportMetric(peer.perEvent(peer.worked), "peer-cpu-µs/event")
	b.ReportMetric(ours.median(), "p50-µs/event")
	b.ReportMetric(peer.median(), "peer-p50-µs/event")
	b.ReportMetric(1e6/ours.perEvent(total(ours.rounds)), "events/s")
	b.ReportMetric(1e6/peer.perEvent(total(peer.rounds)), "peer-events/s")
	b.ReportMetric(peer.perEvent(total(peer.rounds))/ours.perEvent(total(ours.rounds)), "times-the-events/s")
	b.ReportMetric(medianRatio(peer, ours), "median-times-the-events/s")
	perRound := float64(ours.events) / float64(peer.events) // there are as many rounds of both
	b.ReportMetric(perRound*float64(quiet(peer.rounds))/float64(quiet(ours.rounds)), "quiet-times-the-events/s")
}

// compareRun sends events, and calls of the same model by OpenWhisk's /run, to one receiver of
// ours in turns.
func compareRun(b *testing.B) {
	events := startReceiver(b, modeEvents, plainModel)
	calls := &receiver{address: events.address, pid: events.pid}
	events.clients = []*eventClient{dialEvents(b, events.address, 0, false, 1)}
	call := dialRaw(b, events.address, "/run", "Content-Type: application/json\r\n", `{"value":{"n":41}}`)
	call.want, calls.clients = `{"n":`, []*eventClient{call}
	compareReceivers(b, events, calls)
	b.ReportMetric(events.perEvent(events.worked), "cpu-µs/event")
	b.ReportMetric(calls.perEvent(calls.worked), "cpu-µs/run")
	b.ReportMetric(events.median(), "p50-µs/event")
	b.ReportMetric(calls.median(), "p50-µs/run")
}

// compareReceivers sends rounds of events to both in turns.
func compareReceivers(b *testing.B, ours, peer *receiver) {
	b.Helper()
	// A client that waits keeps one.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(ours.clients)+1)))
	for range 4 {
		ours.round(b)
		peer.round(b)
	}
	both := []*receiver{ours, peer}
	for _, r := range both {
		r.reset()
	}
	for b.Loop() {
		for _, r := range both {
			r.round(b)
		}
		slices.Reverse(both)
	}
}

// A receiver is a process that events are sent to, and what became of them.
type receiver struct {
	address string
	pid     int
	clients []*eventClient

	events int
	rounds []time.Duration
	worked time.Duration // the time of processors, of the process and its worker
}

// startReceiver starts the process of a receiver.
func startReceiver(b *testing.B, mode, model string) *receiver {
	b.Helper()
	if os.Getenv("DEEPFN_TEST_PYTHON_CURRENT") == "" {
		b.Fatal("DEEPFN_TEST_PYTHON_CURRENT is not set: run make bench")
	}
	address, pid := startProcess(b, mode, model)
	return &receiver{address: address, pid: pid}
}

// round has each of the clients send its events.
func (r *receiver) round(b *testing.B) {
	b.Helper()
	before, began := processorTime(b, r.pid), time.Now()
	if len(r.clients) == 1 {
		r.clients[0].round(b)
	} else {
		var all sync.WaitGroup
		for _, c := range r.clients {
			all.Go(func() { c.round(b) })
		}
		all.Wait()
	}
	r.rounds = append(r.rounds, time.Since(began))
	r.worked += processorTime(b, r.pid) - before
	for _, c := range r.clients {
		r.events += c.messages() * c.events()
	}
	if b.Failed() {
		b.FailNow()
	}
}

// reset forgets the rounds that were to warm up.
func (r *receiver) reset() {
	r.events, r.rounds, r.worked = 0, nil, 0
	for _, c := range r.clients {
		c.times = nil
	}
}

// perEvent is the part of one event in a time, in microseconds.
func (r *receiver) perEvent(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(r.events)
}

// median is the median of the time of a message, for each of its events, in microseconds.
func (r *receiver) median() float64 {
	var times []time.Duration
	for _, c := range r.clients {
		times = append(times, c.times...)
	}
	return float64(median(times).Nanoseconds()) / 1e3 / float64(r.clients[0].events())
}

// medianRatio is the median over all rounds of the time of an event of one receiver in that of the
// other.
func medianRatio(of, in *receiver) float64 {
	ratios := make([]float64, len(in.rounds))
	for i := range ratios {
		ratios[i] = float64(of.rounds[i]) / float64(in.rounds[i])
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2] * float64(in.events) / float64(of.events)
}
