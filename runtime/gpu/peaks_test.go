package gpu

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func closePeaks(t *testing.T, p *Peaks) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestPeaks keeps peaks over a restart.
func TestPeaks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "peaks.json")
	p := OpenPeaks(path, nil)
	if _, ok := p.Peak("m", "A100"); ok {
		t.Error("got a peak of nothing")
	}
	p.Record("m", "A100", 5)
	p.Record("m", "A100", 3)
	p.Record("m", "T4", 7)
	p.Record("m", "H100", 0)
	p.Record("m", "H100", -1)
	closePeaks(t, p)
	closePeaks(t, p)
	p = OpenPeaks(path, nil)
	defer closePeaks(t, p)
	for _, tt := range []struct {
		model, device string
		want          int64
	}{{"m", "A100", 3}, {"m", "T4", 7}, {"m", "H100", 0}, {"n", "A100", 0}} {
		if got, ok := p.Peak(tt.model, tt.device); got != tt.want || ok != (tt.want > 0) {
			t.Errorf("%s on %s: got %d, %v, want %d", tt.model, tt.device, got, ok, tt.want)
		}
	}
}

// TestPeaksDamaged starts afresh, with a warning, and writes what is measured then.
func TestPeaksDamaged(t *testing.T) {
	for name, content := range map[string]string{
		"cut":         `{"version": 1, "peaks": [{"model"`,
		"empty":       "",
		"tomorrow's":  `{"version": 2, "peaks": []}`,
		"other types": `{"version": 1, "peaks": [{"model": 7}]}`,
		"endless":     `{"version": 1, "peaks": []` + strings.Repeat(" ", maxPeaksFile) + "}",
	} {
		path := filepath.Join(t.TempDir(), "peaks.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		p := OpenPeaks(path, slog.New(slog.NewTextHandler(&log, nil)))
		p.Record("m", "T4", 7)
		closePeaks(t, p)
		if !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%s: got the log %q, want a warning", name, log.String())
		}
		p = OpenPeaks(path, nil)
		if got, _ := p.Peak("m", "T4"); got != 7 {
			t.Errorf("%s: got %d, want what was recorded afterwards", name, got)
		}
		closePeaks(t, p)
	}
}

// TestPeaksBounded forgets what was not used for the longest time.
func TestPeaksBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peaks.json")
	p := OpenPeaks(path, nil)
	p.Record("old", "T4", 1)
	for i := range 2 * maxPeaks {
		p.Record(fmt.Sprint(i), "T4", 1)
		if _, ok := p.Peak("old", "T4"); !ok {
			t.Fatalf("forgot what is in use, at %d", i)
		}
	}
	if len(p.entries) > maxPeaks {
		t.Errorf("got %d entries in memory, want %d at most", len(p.entries), maxPeaks)
	}
	closePeaks(t, p)
	p = OpenPeaks(path, nil)
	defer closePeaks(t, p)
	_, first := p.Peak("0", "T4")
	_, last := p.Peak(fmt.Sprint(2*maxPeaks-1), "T4")
	if _, used := p.Peak("old", "T4"); first || !last || !used || len(p.entries) > maxPeaks {
		t.Errorf("got %d entries, the first %v, the last %v, the used %v", len(p.entries), first, last, used)
	}
}

// TestPeaksWrites writes many measurements at once, and tells of a disk that does not take them.
func TestPeaksWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "peaks.json")
		p := OpenPeaks(path, nil)
		p.Record("m", "T4", 1)
		synctest.Wait()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			p.Record("m", "T4", int64(i+2))
			synctest.Wait()
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("got %s at once, want %s still", after, before)
		}
		time.Sleep(writePause)
		synctest.Wait()
		if after, _ := os.ReadFile(path); !bytes.Contains(after, []byte("101")) {
			t.Errorf("got %s, want the last", after)
		}
		closePeaks(t, p)
	})
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := OpenPeaks(filepath.Join(folder, "file", "peaks.json"), nil)
	p.Record("m", "T4", 1)
	if err := p.Close(); err == nil {
		t.Error("got no error below a file")
	}
}

// TestPeaksRace is for the race detector.
func TestPeaksRace(t *testing.T) {
	p := OpenPeaks(filepath.Join(t.TempDir(), "peaks.json"), nil)
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for j := range 200 {
				p.Record(fmt.Sprint(j%7), "T4", int64(i+1))
				if got, ok := p.Peak(fmt.Sprint(j%7), "T4"); !ok || got < 1 || got > 8 {
					t.Errorf("got %d, %v", got, ok)
				}
			}
		})
	}
	users.Wait()
	closePeaks(t, p)
}
