package tracetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The traces of the tests: many models for shares, whose processes need not be long, and two
// weeks of the models of a simulation.
func manyModels(seed uint64) Config {
	return Config{Seed: seed, Models: 4000, Duration: time.Nanosecond, MaxRate: math.Inf(1)}
}

func twoWeeks(seed uint64) Config {
	return Config{Seed: seed, Duration: 14 * day, MaxRate: 5 * perMinute}
}

func TestSharesArePublished(t *testing.T) {
	for seed := range uint64(5) {
		for _, fault := range shareFaults(New(manyModels(seed))) {
			t.Errorf("seed %d: %s", seed, fault)
		}
		small := Config{Seed: seed, Duration: time.Nanosecond}
		for _, fault := range smallFaults(New(small)) {
			t.Errorf("seed %d: %s", seed, fault)
		}
	}
}

func TestProcessesArePublished(t *testing.T) {
	for seed := range uint64(2) {
		for _, fault := range processFaults(New(twoWeeks(seed))) {
			t.Errorf("seed %d: %s", seed, fault)
		}
	}
}

// TestFaultsAreSeen changes one figure each time.
func TestFaultsAreSeen(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(f *figures)
	}{
		{"rates ten times as high", "once an hour", func(f *figures) {
			for i := range f.rates {
				f.rates[i].value *= 10
			}
		}},
		{"rates all alike", "once a minute", func(f *figures) { f.rates = curve{{20, 0.5}, {1500, 1}} }},
		{"Poisson processes only", "periodic", func(f *figures) { f.variations = curve{{1, 0}, {1.0001, 1}} }},
		{"bursts only", "above 1", func(f *figures) { f.variations[3].share = 0.3 }},
		{"no timers", "timers alone", func(f *figures) { f.triggers = f.triggers[:1] }},
		{"long executions", "below a second", func(f *figures) { f.runLogMean++ }},
		{"executions all alike", "below 10 s", func(f *figures) { f.runLogSigma = 0.2 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := published()
			test.change(&f)
			wantFault(t, shareFaults(generate(manyModels(1).withDefaults(), f)), test.want)
		})
	}
	t.Run("no night", func(t *testing.T) {
		f := published()
		f.swing = 0
		wantFault(t, processFaults(generate(twoWeeks(1).withDefaults(), f)), "quietest hour")
	})
	t.Run("no weekend", func(t *testing.T) {
		f := published()
		f.weekend = 1
		wantFault(t, processFaults(generate(twoWeeks(1).withDefaults(), f)), "weekend")
	})
	t.Run("processes of another variation", func(t *testing.T) {
		tr := New(twoWeeks(1))
		for i := range tr.Models {
			tr.Models[i].Variation = 1.5
		}
		wantFault(t, processFaults(tr), "coefficient")
	})
}

func wantFault(t *testing.T, faults []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, want) }) {
		t.Errorf("got faults %q, want one about %q", faults, want)
	}
}

// checks collects what is not as it should be.
type checks []string

func (c *checks) near(what string, got, want, tolerance float64) {
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		*c = append(*c, fmt.Sprintf("%s: got %.3f, want %.3f ± %.3f", what, got, want, tolerance))
	}
}

// shareFaults compares many models with what the paper says of all applications.
func shareFaults(tr Trace) []string {
	var c checks
	share := func(is func(m *Model) bool) float64 { return shareOf(tr.Models, is) }
	c.near("invoked at most once an hour", share(func(m *Model) bool { return m.Rate <= 24*1.001 }), 0.45, 0.03)
	c.near("invoked at least once a minute", share(func(m *Model) bool { return m.Rate >= perMinute*0.999 }), 0.186, 0.03)
	c.near("their part of the invocations", popular(tr.Models), 0.996, 0.006)
	c.near("periodic", share(func(m *Model) bool { return m.Variation < 0.01 }), 0.20, 0.03)
	c.near("coefficient of variation above 1", share(func(m *Model) bool { return m.Variation > 1 }), 0.40, 0.03)
	c.near("invoked by HTTP alone", share(func(m *Model) bool { return m.Triggers == "H" }), 0.43, 0.02)
	c.near("invoked by timers alone", share(func(m *Model) bool { return m.Triggers == "T" }), 0.134, 0.01)
	c.near("invoked by timers and others", share(func(m *Model) bool {
		return m.Triggers != "T" && strings.Contains(m.Triggers, "T")
	}), 0.158, 0.01)
	// Runs are cut where a model would be busy for too long: of those that are not.
	free := slices.DeleteFunc(slices.Clone(tr.Models), func(m Model) bool { return m.Rate > 24 })
	c.near("executions below a second", shareOf(free, func(m *Model) bool { return m.Run < time.Second }), 0.56, 0.04)
	c.near("executions below 10 s", shareOf(free, func(m *Model) bool { return m.Run < 10*time.Second }), 0.87, 0.03)
	return c
}

// smallFaults looks at the sixty models of a simulation.
func smallFaults(tr Trace) []string {
	var c checks
	n := float64(len(tr.Models))
	c.near("models", n, 60, 0)
	c.near("invoked at most once an hour", n*shareOf(tr.Models, func(m *Model) bool { return m.Rate <= 24*1.001 }), 27, 3)
	c.near("invoked at least once a minute", n*shareOf(tr.Models, func(m *Model) bool { return m.Rate >= perMinute*0.999 }), 11, 2)
	// Less than of all applications, because the most popular ones are cut to one a second.
	c.near("their part of the invocations", popular(tr.Models), 0.97, 0.02)
	c.near("invoked by timers alone", n*shareOf(tr.Models, func(m *Model) bool { return m.Triggers == "T" }), 8, 1)
	c.near("coefficient of variation above 1", n*shareOf(tr.Models, func(m *Model) bool { return m.Variation > 1 }), 24, 1)
	var memory, busy, least, most int64 = 0, 0, math.MaxInt64, 0
	for i := range tr.Models {
		if tr.Models[i].Rate >= perMinute {
			busy += tr.Models[i].Memory
		}
		memory += tr.Models[i].Memory
		least, most = min(least, tr.Models[i].Memory), max(most, tr.Models[i].Memory)
	}
	c.near("memory of all, in devices of 80 GB", float64(memory)/80e9, 7, 0.5)
	c.near("memory of the busiest, in devices", float64(busy)/80e9, 1, 0.6)
	c.near("the least, in GB", float64(least)/1e9, 0.6, 0.1)
	c.near("the most, in GB", float64(most)/1e9, 36, 1)
	return c
}

// processFaults compares the invocations with the parameters of their models.
func processFaults(tr Trace) []string {
	var c checks
	times := make([][]float64, len(tr.Models))
	runs := make([][]float64, len(tr.Models))
	var last time.Duration
	for _, v := range tr.Invocations {
		if v.At < last || v.At >= 14*day {
			c = append(c, fmt.Sprintf("an invocation at %v after one at %v", v.At, last))
		}
		last = v.At
		times[v.Model] = append(times[v.Model], v.At.Seconds())
		runs[v.Model] = append(runs[v.Model], v.Run.Seconds())
	}
	for i := range tr.Models {
		m := &tr.Models[i]
		n := float64(len(times[i]))
		if n < 2000 || m.Variation > 2 { // else chance is too large
			continue
		}
		name := fmt.Sprintf("%s (%s, %.0f a day, %.2f)", m.Name, m.Triggers, m.Rate, m.Variation)
		c.near(name+": invocations a day", n/14/m.Rate, 1, 0.02+4*m.Variation/math.Sqrt(n))
		// The hours of the day add some variation.
		c.near(name+": coefficient", variation(differences(times[i]))/max(m.Variation, 1), min(m.Variation, 1), 0.15)
		slices.Sort(runs[i])
		c.near(name+": median execution", runs[i][len(runs[i])/2]/m.Run.Seconds(), 1, 0.1)
	}
	night, weekend := seasons(tr, times)
	c.near("quietest hour beside the busiest", night, 0.5, 0.08)
	c.near("weekend beside week", weekend, 0.85, 0.05)
	return c
}

// seasons returns how the quietest hour compares with the busiest, and a day at the weekend
// with one of the week, in the models whose invocations follow people and are steady enough.
func seasons(tr Trace, times [][]float64) (night, weekend float64) {
	var hours [24]float64
	var days [7]float64
	for i := range tr.Models {
		m := &tr.Models[i]
		if m.Variation < 0.25 || m.Variation > 2 || m.Triggers == "T" || len(times[i]) < 2000 {
			continue
		}
		for _, at := range times[i] {
			weight := 1 / float64(len(times[i]))
			hours[int(at/3600)%24] += weight
			days[int(at/86400)%7] += weight
		}
	}
	week := (days[0] + days[1] + days[2] + days[3] + days[4]) / 5
	return slices.Min(hours[:]) / slices.Max(hours[:]), (days[5] + days[6]) / 2 / week
}

// shareOf returns how many of the models are so, as a share.
func shareOf(models []Model, is func(m *Model) bool) float64 {
	n := 0
	for i := range models {
		if is(&models[i]) {
			n++
		}
	}
	return float64(n) / float64(len(models))
}

// popular returns which part of the invocations is of the 18.6 % most popular models.
func popular(models []Model) float64 {
	rates := make([]float64, len(models))
	for i := range models {
		rates[i] = models[i].Rate
	}
	slices.Sort(rates)
	var all, top float64
	for i, r := range rates {
		all += r
		if float64(i) >= float64(len(rates))*(1-0.186) {
			top += r
		}
	}
	return top / all
}

func differences(sorted []float64) []float64 {
	d := make([]float64, len(sorted)-1)
	for i := range d {
		d[i] = sorted[i+1] - sorted[i]
	}
	return d
}

// variation returns the coefficient of variation.
func variation(values []float64) float64 {
	var sum, squares float64
	for _, v := range values {
		sum += v
	}
	mean := sum / float64(len(values))
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return math.Sqrt(squares/float64(len(values))) / mean
}

func TestSameSeedSameTrace(t *testing.T) {
	cfg := Config{Seed: 7, Duration: time.Hour}
	one, other := New(cfg), New(cfg)
	if diff := cmp.Diff(one, other); diff != "" {
		t.Errorf("the same seed gave another trace:\n%s", diff)
	}
	cfg.Seed = 8
	if cmp.Equal(one, New(cfg)) {
		t.Error("another seed gave the same trace")
	}
}

func TestLoad(t *testing.T) {
	m := &Model{Name: "m", Memory: 21e9, Context: 1e9, Fixed: 4 * time.Second, Bandwidth: 2e9}
	var sum float64
	for n := range 1000 {
		d := m.Load(1, n)
		if d != m.Load(1, n) {
			t.Fatal("the same load took another time")
		}
		sum += d.Seconds()
	}
	if mean := sum / 1000; math.Abs(mean-14) > 0.3 {
		t.Errorf("got %.2f s in the mean, want 4 s + 20 GB / 2 GB/s", mean)
	}
}

func TestGammaVariation(t *testing.T) {
	for _, want := range []float64{0, 0.2, 0.5, 1, 2, 4} {
		next := gaps(stream(3, "gaps"), want)
		values := make([]float64, 400_000)
		var sum float64
		for i := range values {
			values[i] = next()
			sum += values[i]
		}
		if mean := sum / float64(len(values)); math.Abs(mean-1) > 0.03 {
			t.Errorf("variation %v: got mean %.3f, want 1", want, mean)
		}
		if got := variation(values); math.Abs(got-want) > 0.05*want {
			t.Errorf("got variation %.3f, want %v", got, want)
		}
	}
}
