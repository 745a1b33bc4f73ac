package batch

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// rateTime is how far back the rate of a batch looks.
const rateTime = 30 * time.Second

// A progress counts what is done of a batch.
type progress struct {
	report func(actions.Progress)
	total  int64 // rows; 0 while nobody knows
	size   int64 // bytes of the input

	mu           sync.Mutex   // guards what follows
	begun        map[int]bool // chunks that were begun, by anybody
	tries        int          // how often
	done         map[int]*commit
	rows, failed int64
	bytes        int64
	marks        []mark // of the last rateTime, the oldest first
}

// A mark is how many rows and bytes were done at a time.
type mark struct {
	time        time.Time
	rows, bytes int64
}

func newProgress(s *rows.Source, report func(actions.Progress)) *progress {
	if report == nil {
		report = func(actions.Progress) {}
	}
	return &progress{report: report, total: s.Total(), size: s.Size(), begun: map[int]bool{}, done: map[int]*commit{}}
}

// begin notes that a chunk is begun.
func (p *progress) begin(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	p.begun[index] = true
}

// begunAs notes all attempts, by their names in the store.
func (p *progress) begunAs(names map[string]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries = len(names)
	for name := range names {
		digits, _, _ := strings.Cut(name, "-")
		if index, err := strconv.Atoi(digits); err == nil {
			p.begun[index] = true
		}
	}
}

// tell counts what is new in commits and reports.
func (p *progress) tell(commits map[int]*commit) {
	p.mu.Lock()
	now := time.Now()
	for index, c := range commits {
		if p.done[index] == nil {
			p.done[index] = c
			p.rows += c.Rows
			p.failed += c.Failed
			p.bytes += c.Bytes
		}
	}
	p.marks = append(p.marks, mark{now, p.rows, p.bytes})
	for len(p.marks) > 2 && now.Sub(p.marks[1].time) > rateTime {
		p.marks = p.marks[1:]
	}
	told := p.progressLocked(now)
	p.mu.Unlock()
	p.report(told)
}

func (p *progress) progressLocked(now time.Time) actions.Progress {
	told := actions.Progress{
		Rows: p.rows, Failed: p.failed, Total: p.total, Chunks: len(p.done), Redone: p.tries - len(p.begun), Time: now,
	}
	switch {
	case p.total > 0:
		told.Fraction = min(1, float64(p.rows)/float64(p.total))
	case p.size > 0:
		told.Fraction = min(1, float64(p.bytes)/float64(p.size))
	}
	first := p.marks[0]
	seconds := now.Sub(first.time).Seconds()
	if seconds <= 0 || p.rows == first.rows {
		return told
	}
	told.Rate = float64(p.rows-first.rows) / seconds
	switch {
	case p.total > 0:
		told.Remaining = float64(p.total-p.rows) / told.Rate
	case p.bytes > first.bytes:
		told.Remaining = float64(max(0, p.size-p.bytes)) * seconds / float64(p.bytes-first.bytes)
	}
	return told
}
