package gpu

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions/disk"
)

const (
	// maxPeaks bounds how many peaks are kept, and maxPeaksFile the bytes of their file.
	maxPeaks     = 4096
	maxPeaksFile = 4 << 20
	// writePause is the least time between two writes of the file.
	writePause = 5 * time.Second
)

// Peaks remembers the most memory that an instance of a model was seen to take on a type of
// device, also over restarts. Many may use it.
type Peaks struct {
	path  string
	log   *slog.Logger
	dirty chan struct{} // there is something to write
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed when the writer has ended
	close sync.Once

	mu      sync.Mutex // guards what follows
	entries map[peakKey]peak
	uses    int64 // counts up, to know which entry was not used for the longest time
	err     error // of the last write
}

type peakKey struct{ model, device string }

type peak struct {
	bytes int64
	used  int64
}

// A peakRecord is an entry in the file, which is {"version": 1, "peaks": [...]} with what was
// used last at the end.
type peakRecord struct {
	Model  string `json:"model"`
	Device string `json:"device"`
	Bytes  int64  `json:"bytes"`
}

type peaksFile struct {
	Version int          `json:"version"`
	Peaks   []peakRecord `json:"peaks"`
}

// OpenPeaks reads the peaks of a file, which need not exist, nor its folder. A file that cannot
// be read is a warning, and nothing is known. Close ends it.
func OpenPeaks(path string, log *slog.Logger) *Peaks {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Peaks{
		path: path, log: log, entries: map[peakKey]peak{},
		dirty: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := p.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("measured memory is not known", "file", path, "error", err)
	}
	go p.write()
	return p
}

// Peak returns the most bytes that the model was seen to take on a device of this type
// (actions.Device.Name); false when that is not known.
func (p *Peaks) Peak(model, device string) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := peakKey{model, device}
	e, found := p.entries[k]
	if found {
		p.uses++
		e.used = p.uses
		p.entries[k] = e
	}
	return e.bytes, found
}

// Record says how many bytes an instance of the model took on a device of this type. It
// replaces what was known, also if that was more: a model can have changed. It returns before
// that is on disk. Bytes that are not positive are no measurement.
func (p *Peaks) Record(model, device string, bytes int64) {
	if bytes <= 0 {
		return
	}
	p.mu.Lock()
	k := peakKey{model, device}
	changed := p.entries[k].bytes != bytes
	p.uses++
	p.entries[k] = peak{bytes, p.uses}
	p.trimLocked()
	p.mu.Unlock()
	if !changed {
		return
	}
	select {
	case p.dirty <- struct{}{}:
	default: // it will be written already
	}
}

// Close writes what is not on disk yet and ends the goroutine. The error is of the last write.
func (p *Peaks) Close() error {
	p.close.Do(func() { close(p.stop) })
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// trimLocked forgets what was not used for the longest time, a part at once so that it is rare.
func (p *Peaks) trimLocked() {
	if len(p.entries) <= maxPeaks {
		return
	}
	keys := p.keysLocked()
	for _, k := range keys[:len(keys)-maxPeaks*7/8] {
		delete(p.entries, k)
	}
}

// keysLocked returns the keys, what was used last at the end.
func (p *Peaks) keysLocked() []peakKey {
	return slices.SortedFunc(maps.Keys(p.entries), func(a, b peakKey) int {
		return cmp.Compare(p.entries[a].used, p.entries[b].used)
	})
}

func (p *Peaks) load() error {
	f, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxPeaksFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxPeaksFile {
		return fmt.Errorf("it has more than %d bytes", maxPeaksFile)
	}
	var file peaksFile
	if err := json.Unmarshal(data, &file); err != nil {
		return err
	}
	if file.Version != 1 {
		return fmt.Errorf("its version is %d, want 1", file.Version)
	}
	for _, r := range file.Peaks[max(0, len(file.Peaks)-maxPeaks):] {
		if r.Bytes > 0 {
			p.uses++
			p.entries[peakKey{r.Model, r.Device}] = peak{r.Bytes, p.uses}
		}
	}
	return nil
}

// write is the goroutine that keeps the file. It ends after Close.
func (p *Peaks) write() {
	defer close(p.ended)
	for {
		select {
		case <-p.dirty:
			p.save()
		case <-p.stop:
			select {
			case <-p.dirty:
				p.save()
			default:
			}
			return
		}
		select { // what comes meanwhile is one write
		case <-time.After(writePause):
		case <-p.stop:
		}
	}
}

func (p *Peaks) save() {
	p.mu.Lock()
	file := peaksFile{Version: 1, Peaks: []peakRecord{}}
	for _, k := range p.keysLocked() {
		file.Peaks = append(file.Peaks, peakRecord{k.model, k.device, p.entries[k].bytes})
	}
	p.mu.Unlock()
	data, err := json.MarshalIndent(file, "", " ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(p.path), 0o755) // #nosec G301 -- it holds no secret
	}
	if err == nil {
		err = disk.WriteFile(p.path, append(data, '\n'), 0o644)
	}
	if err != nil {
		err = fmt.Errorf("gpu: peaks: %w", err)
		p.log.Warn("measured memory is not kept", "file", p.path, "error", err)
	}
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
}
