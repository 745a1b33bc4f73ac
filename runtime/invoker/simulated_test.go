package invoker_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/runtime/invoker"
	"github.com/deepfn/deepfn/runtime/invoker/tracetest"
)

// suites are what a simulation compares: the three policies that it is about, and then what the
// keep-alive does to them.
func suites() []suite {
	return []suite{
		{"GDSF", func(cfg *invoker.Config) { cfg.Policy = invoker.NewGDSF() }},
		{"LRU", func(cfg *invoker.Config) { cfg.Policy = invoker.NewLRU() }},
		{"Ollama's order", func(cfg *invoker.Config) { cfg.Policy = ollama{} }},
		{"GDSF, 10 min", func(cfg *invoker.Config) { cfg.Policy, cfg.IdleTime = invoker.NewGDSF(), 10*time.Minute }},
		{"LRU, 10 min", func(cfg *invoker.Config) { cfg.Policy, cfg.IdleTime = invoker.NewLRU(), 10*time.Minute }},
		{"Ollama's, 5 min", func(cfg *invoker.Config) { cfg.Policy, cfg.IdleTime = ollama{}, 5*time.Minute }},
	}
}

// TestSimulation replays traces of sixty models on two devices of 80 GB. The long version, for
// `make simulation`, takes a day for each of five seeds, and writes what comes of it into the
// documentation.
func TestSimulation(t *testing.T) {
	length, seeds, compared := 3*time.Hour, uint64(2), suites()[:3]
	docs := os.Getenv("DEEPFN_TEST_SIMULATION")
	if docs != "" {
		length, seeds, compared = 24*time.Hour, 5, suites()
	}
	results := make([]result, len(compared))
	var traces []string
	for seed := range seeds {
		tr := tracetest.New(tracetest.Config{Seed: seed, Duration: length})
		traces = append(traces, tr.String())
		for i, s := range compared {
			out := replay(t, tr, length, s)
			t.Logf("seed %d, %s: %s", seed, s.name, out.String())
			for d, peak := range out.peaks {
				if peak > 80e9 {
					t.Errorf("seed %d, %s: %d bytes of device %d were used", seed, s.name, peak, d)
				}
			}
			if len(out.waits) != len(tr.Invocations) {
				t.Errorf("seed %d, %s: %d of %d invocations were answered", seed, s.name, len(out.waits), len(tr.Invocations))
			}
			results[i].suite = s
			results[i].add(out)
		}
	}
	gdsf, lru, ollamas := results[0].hours(), results[1].hours(), results[2].hours()
	t.Logf("GDSF reloads for %.3f of LRU's time, %.3f of Ollama's", gdsf/lru, gdsf/ollamas)
	if docs == "" {
		// So little of a trace is mostly first loads, which nobody can spare.
		if gdsf > lru || gdsf > 0.9*ollamas {
			t.Errorf("hours of reloads: GDSF %.2f, LRU %.2f, Ollama's order %.2f", gdsf, lru, ollamas)
		}
		return
	}
	if gdsf > 0.80*ollamas {
		t.Errorf("GDSF reloads for %.2f h, Ollama's order for %.2f h: want 0.80 of it at most", gdsf, ollamas)
	}
	if gdsf > 0.95*lru {
		t.Errorf("GDSF reloads for %.2f h, LRU for %.2f h: want 0.95 of it at most", gdsf, lru)
	}
	writeDocs(t, docs, results, traces, length)
}

// A result is what one suite has done with all traces.
type result struct {
	suite
	outcomes []outcome
	totals   []float64 // hours of reload
}

func (r *result) add(out outcome) {
	r.totals = append(r.totals, out.reload.Hours())
	r.outcomes = append(r.outcomes, out)
}

// hours is the time of all reloads of all traces.
func (r *result) hours() float64 {
	var sum float64
	for _, h := range r.totals {
		sum += h
	}
	return sum
}

// row is the result's line of the table in the documentation.
func (r *result) row(first *result) string {
	var loads, cold, answered int
	var p99, p999 []float64
	var peak int64
	for i := range r.outcomes {
		o := &r.outcomes[i]
		loads, cold, answered = loads+o.loads, cold+o.cold, answered+len(o.waits)
		p99 = append(p99, o.percentile(0.99).Seconds())
		p999 = append(p999, o.percentile(0.999).Seconds())
		peak = max(peak, o.peaks[0], o.peaks[1])
	}
	return fmt.Sprintf("| %s | %d | %.2f | %.2f | %.2f | %.2f %% | %.1f s | %.1f s | %.2f GB |\n", r.name, loads, r.hours(),
		tracetest.Median(r.totals), first.hours()/r.hours(), 100*float64(cold)/float64(answered),
		tracetest.Median(p99), tracetest.Median(p999), float64(peak)/1e9)
}

// writeDocs writes the picture, and the tables into their places in the page.
func writeDocs(t *testing.T, docs string, results []result, traces []string, length time.Duration) {
	t.Helper()
	series := make([]tracetest.Series, len(results))
	table := "| policy | loads | hours of reloads | median | GDSF beside it | cold | wait p99 | p99.9 | most used of a device |\n" +
		"| --- | --: | --: | --: | --: | --: | --: | --: | --: |\n"
	for i := range results {
		series[i] = tracetest.Series{Name: results[i].name, Totals: results[i].totals, Course: results[i].outcomes[0].course}
		table += results[i].row(&results[0])
	}
	list := "- " + strings.Join(traces, "\n- ") + "\n"
	page := filepath.Join(docs, "simulation.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text = fill(t, text, "table", table)
	text = fill(t, text, "traces", list)
	for name, data := range map[string][]byte{page: text, filepath.Join(docs, "simulation.svg"): tracetest.Plot(series, length.Hours())} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fill replaces what stands between two comments of the page.
func fill(t *testing.T, page []byte, place, text string) []byte {
	t.Helper()
	begin, end := []byte("<!-- "+place+" -->\n"), []byte("<!-- end of "+place+" -->\n")
	from, to := bytes.Index(page, begin), bytes.Index(page, end)
	if from < 0 || to < from {
		t.Fatalf("the page has no place for %s", place)
	}
	return bytes.Join([][]byte{page[:from+len(begin)], []byte(text), page[to:]}, nil)
}
