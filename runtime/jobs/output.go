package jobs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

const minLog = 4 << 10

// An output takes the lines of a job: it finds the progress in them and keeps the
// beginning and the end of the rest, half of its limit each.
type output struct {
	store    *store
	id       string
	max      int64
	progress func(actions.Progress)

	mu       sync.Mutex // guards everything below
	came     bool       // there was a line
	told     bool       // the model says its progress itself
	reported bool       // progress does not come in lines
	marks    [2]held    // by stream
	file     *os.File   // the segment that is written; nil before the first line
	start    int64      // where the segment begins in all that was printed
	size     int64      // of the segment
	tails    []segment  // the last segments, without the first
	failed   bool       // a write failed
	closed   bool
}

// newOutput returns the output of a job.
func (s *Jobs) newOutput(j *job, id string) *output {
	return &output{store: s.store, id: id, max: s.cfg.MaxLog, progress: j.report}
}

// A held is the last mark of a stream, which the next one may replace.
type held struct {
	mark
	line string // "" for none
}

// add takes a line. Many may call it, also after close, when it does nothing.
func (o *output) add(line actions.LogLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.came = true
	text := strings.TrimRight(line.Text, "\r\n")
	for {
		// What a carriage return ends is overwritten on a terminal, if it is a bar.
		part, rest, more := strings.Cut(text, "\r")
		if part != "" || !more {
			o.addLocked(line.Stream, part)
		}
		if !more {
			return
		}
		text = rest
	}
}

func (o *output) addLocked(stream actions.Stream, line string) {
	place := &o.marks[0]
	if stream == actions.Stderr {
		place = &o.marks[1]
	}
	m, ok := parseMark(stream, line)
	if !ok {
		if place.line != "" && strings.TrimSpace(line) == "" {
			return // how a bar is wiped out
		}
		o.flushLocked(place)
		o.writeLocked(line)
		return
	}
	if place.known && place.fraction == 1 && (m.text != place.text || m.fraction < 1) {
		o.flushLocked(place)
	}
	*place = held{mark: m, line: line}
	o.told = o.told || m.told
	if m.known && m.told == o.told && !o.reported {
		o.progress(actions.Progress{Fraction: m.fraction, Text: m.text})
	}
}

// report takes progress that is not in a line. Many may call it, also after close, when it
// does nothing.
func (o *output) report(p actions.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.reported = true
		o.progress(p)
	}
}

// addAll takes the lines of an answer if there were no others: not every worker gives its
// lines away as they come.
func (o *output) addAll(lines []actions.LogLine) {
	o.mu.Lock()
	came := o.came
	o.mu.Unlock()
	if came {
		return
	}
	for _, line := range lines {
		o.add(line)
	}
}

// flushLocked writes the line that waited to be replaced.
func (o *output) flushLocked(place *held) {
	if place.line != "" {
		o.writeLocked(place.line)
	}
	*place = held{}
}

// writeLocked writes a line to disk. A log that cannot be written ends no job.
func (o *output) writeLocked(line string) {
	b := append([]byte(cut(line, int(o.max/4)-1)), '\n')
	if err := o.rollLocked(int64(len(b))); err != nil {
		o.failLocked(err)
		return
	}
	n, err := o.file.Write(b)
	if err != nil {
		// The next line begins where this one should have.
		o.failLocked(errors.Join(err, o.cutLocked(n)))
		return
	}
	o.size += int64(n)
}

func (o *output) cutLocked(written int) error {
	if written == 0 {
		return nil
	}
	return o.file.Truncate(o.size)
}

func (o *output) failLocked(err error) {
	if !o.failed && ignoreAbsent(err) != nil { // a removed job needs no log
		o.store.log.Warn("job log not written", "job", o.id, "err", err)
	}
	o.failed = true
}

// rollLocked begins a new segment when there is none with room for n bytes.
func (o *output) rollLocked(n int64) error {
	name := o.id + "/" + logName
	switch {
	case o.file == nil:
	case o.start == 0 && o.size+n <= o.max/2, o.start > 0 && o.size+n <= o.max/4:
		return nil
	default:
		name += "." + strconv.FormatInt(o.start+o.size, 10)
	}
	f, err := o.store.create(o.store.root, name)
	if err != nil {
		return err
	}
	if o.file != nil {
		_ = o.file.Close()
		o.start += o.size
		o.tails = append(o.tails, segment{path: name, start: o.start})
	}
	o.file, o.size = f, 0
	if len(o.tails) > 2 {
		err = o.store.root.Remove(o.tails[0].path)
		o.tails = o.tails[1:]
	}
	return ignoreAbsent(err)
}

// read returns what was printed until now.
func (o *output) read() ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	data, err := o.store.readLog(o.id, o.max)
	for _, place := range o.marks {
		if place.line != "" {
			data = append(append(data, place.line...), '\n')
		}
	}
	return data, err
}

// close writes what waits and closes the file. It may be called more than once.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.marks {
		o.flushLocked(&o.marks[i])
	}
	o.closed = true
	if o.file != nil {
		_ = o.file.Close()
	}
}

// A segment is a file of a log.
type segment struct {
	path  string
	start int64 // where it begins in all that was printed
}

// segments are the files of a job's log, in their order.
func (s *store) segments(id string) []segment {
	entries, err := fs.ReadDir(s.root.FS(), id)
	if err != nil {
		return nil
	}
	var found []segment
	for _, entry := range entries {
		name, offset, tail := strings.Cut(entry.Name(), ".")
		if name != logName {
			continue
		}
		start := int64(0)
		if tail {
			if start, err = strconv.ParseInt(offset, 10, 64); err != nil || start <= 0 {
				continue
			}
		}
		found = append(found, segment{path: id + "/" + entry.Name(), start: start})
	}
	slices.SortFunc(found, func(a, b segment) int { return cmp.Compare(a.start, b.start) })
	return found
}

// readLog reads a log of about limit bytes, and says where something was left out.
func (s *store) readLog(id string, limit int64) ([]byte, error) {
	var log bytes.Buffer
	end := int64(0)
	for _, seg := range s.segments(id) {
		data, err := s.read(seg.path, max(limit, defaultMaxLog))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was the oldest
		}
		if err != nil {
			return nil, err
		}
		if left := seg.start - end; left > 0 {
			fmt.Fprintf(&log, "deepfn: %d bytes were left out here\n", left)
		}
		log.Write(data)
		end = seg.start + int64(len(data))
	}
	return log.Bytes(), nil
}
