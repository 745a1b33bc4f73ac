package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

const (
	// The defaults of Config's EventRecord fields.
	defaultRecord      = 10_000
	defaultRecordBytes = 64 << 20
	defaultRecordAge   = 10 * time.Minute
	// recordCost is what the record of an event takes beside the texts of its answer.
	recordCost = 512
)

// An eventKey is who an event is, to a model: events of the same source and id are the same.
// It is the id of the answer, too, so that this is the same one as often as it is given.
type eventKey [sha256.Size]byte

// keyOf makes the key of an event, or of one of the objects that it tells of.
func keyOf(d *delivery) eventKey {
	var room [512]byte
	b := room[:0]
	for _, part := range [...]string{d.event.Source, d.event.ID, d.of.name, d.of.model.Version, d.url} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}

func (k *eventKey) text() string {
	var room [2 * sha256.Size]byte
	return string(hex.AppendEncode(room[:0], k[:]))
}

// An eventRecord knows the events that are being answered, and what became of the last ones.
type eventRecord struct {
	entries int
	bytes   int64
	age     time.Duration

	mu    sync.Mutex // guards what follows, and the entries
	known map[eventKey]*eventEntry
	// The entries that are done, the oldest first.
	oldest, newest *eventEntry
	count          int
	size           int64
}

// An eventEntry is what is known of one event.
type eventEntry struct {
	key eventKey
	// run answers it; nil when that is done. wait is made by the first who waits for that.
	run  *eventRun
	wait *eventWait
	// kept is what is recorded when it is done.
	kept           eventOutcome
	until          time.Time
	size           int64
	older, younger *eventEntry
}

// An eventWait is what others wait for: answer is there when done is closed.
type eventWait struct {
	run    *eventRun
	done   chan struct{}
	answer eventOutcome
}

// An eventRun answers one event or more. It goes on as long as anybody waits for any of them.
type eventRun struct {
	waiting int // guarded by the record
	cancel  context.CancelFunc
}

// newEventRecord makes a record; nil is one that records nothing.
func newEventRecord(cfg *Config) *eventRecord {
	if cfg.EventRecord < 0 {
		return nil
	}
	return &eventRecord{
		entries: cfg.EventRecord, bytes: cfg.EventRecordBytes, age: cfg.EventRecordAge,
		known: make(map[eventKey]*eventEntry),
	}
}

// A standing is how an event stands to those that came before.
type standing uint8

const (
	isFirst  standing = iota // its caller answers it
	isUnsent                 // it is answered, and its caller sends that
	isJoined                 // somebody answers it
	isKnown                  // it is answered
)

// join says how an event stands. For the first two its caller has to finish the entry, for
// isJoined to wait. For isUnsent and isKnown the entry has what is kept. send says that the
// caller has a sink for the answer.
func (rec *eventRecord) join(key eventKey, run *eventRun, send bool) (e *eventEntry, how standing, kept eventOutcome, wait *eventWait) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.expire(time.Now())
	switch e = rec.known[key]; {
	case e == nil:
		e = &eventEntry{key: key, run: run}
		rec.known[key] = e
		return e, isFirst, eventOutcome{}, nil
	case e.run != nil:
		if e.run != run {
			e.run.waiting++
		}
		if e.wait == nil {
			e.wait = &eventWait{run: e.run, done: make(chan struct{})}
		}
		return e, isJoined, eventOutcome{}, e.wait
	case send && !e.kept.sent && (e.kept.err != nil || e.kept.kind != ""):
		rec.unlink(e)
		e.run = run
		return e, isUnsent, e.kept, nil
	}
	return e, isKnown, e.kept, nil
}

// await waits for an event that somebody answers, in another run than own.
func (rec *eventRecord) await(ctx context.Context, wait *eventWait, own *eventRun) (eventOutcome, error) {
	select {
	case <-wait.done:
		return wait.answer, nil
	case <-ctx.Done():
		if wait.run != own {
			rec.leave(wait.run)
		}
		return eventOutcome{}, ctx.Err()
	}
}

// leave notes that one who waited for a run does so no more. It ends when nobody is left.
func (rec *eventRecord) leave(run *eventRun) {
	rec.mu.Lock()
	run.waiting--
	left := run.waiting
	rec.mu.Unlock()
	if left <= 0 {
		run.cancel()
	}
}

// finish ends the run of an event: answer is for all who wait, kept for those who come later;
// nil is forgotten, so that the next one is the first again.
func (rec *eventRecord) finish(e *eventEntry, answer eventOutcome, kept *eventOutcome) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	e.run = nil
	if e.wait != nil {
		e.wait.answer = answer
		close(e.wait.done)
		e.wait = nil
	}
	if kept != nil && kept.sent {
		kept.data = nil
	}
	if kept == nil || kept.cost() > rec.bytes {
		delete(rec.known, e.key)
		return
	}
	e.kept, e.until = *kept, time.Now().Add(rec.age)
	if e.kept.err != nil { // what was printed is in the log
		told := *e.kept.err
		told.Logs, told.Err = nil, nil
		e.kept.err = &told
	}
	e.size = e.kept.cost()
	rec.link(e)
	for rec.count > rec.entries || rec.size > rec.bytes {
		rec.forget(rec.oldest)
	}
}

// cost is how many bytes the record of an outcome takes.
func (o *eventOutcome) cost() int64 {
	n := recordCost + len(o.data) + len(o.contentType) + len(o.subject)
	if o.err != nil {
		n += len(o.err.Msg)
	}
	return int64(n)
}

// expire forgets what is too old.
func (rec *eventRecord) expire(now time.Time) {
	for rec.oldest != nil && now.After(rec.oldest.until) {
		rec.forget(rec.oldest)
	}
}

func (rec *eventRecord) forget(e *eventEntry) {
	rec.unlink(e)
	delete(rec.known, e.key)
}

func (rec *eventRecord) link(e *eventEntry) {
	e.older, e.younger = rec.newest, nil
	if rec.newest != nil {
		rec.newest.younger = e
	} else {
		rec.oldest = e
	}
	rec.newest = e
	rec.count++
	rec.size += e.size
}

func (rec *eventRecord) unlink(e *eventEntry) {
	if e.older != nil {
		e.older.younger = e.younger
	} else {
		rec.oldest = e.younger
	}
	if e.younger != nil {
		e.younger.older = e.older
	} else {
		rec.newest = e.older
	}
	e.older, e.younger = nil, nil
	rec.count--
	rec.size -= e.size
}
