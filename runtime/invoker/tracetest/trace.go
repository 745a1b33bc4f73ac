package tracetest

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Config says which trace is wanted.
type Config struct {
	Seed uint64
	// Models is how many models there are. The default is 60.
	Models int
	// Duration is how long the trace is. The default is a day. It begins on a Monday at
	// midnight.
	Duration time.Duration
	// Memory is what the devices have that are to serve the models, in bytes. The default is two
	// of 80 GB for each sixty models.
	Memory int64
	// MaxRate is the most invocations a day of one model. The default is one a second, 86400.
	MaxRate float64
}

func (cfg Config) withDefaults() Config {
	cfg.Models = cmp.Or(cfg.Models, 60)
	cfg.Duration = cmp.Or(cfg.Duration, day)
	cfg.Memory = cmp.Or(cfg.Memory, 160e9*int64(cfg.Models)/60)
	cfg.MaxRate = cmp.Or(cfg.MaxRate, 86400)
	return cfg
}

const day = 24 * time.Hour

// A Trace is what happens to some models.
type Trace struct {
	Seed uint64
	// Models are in no order that would mean anything.
	Models []Model
	// Invocations are in the order of time.
	Invocations []Invocation
}

// An Invocation is one call of a model.
type Invocation struct {
	// At is when it comes, since the beginning of the trace.
	At time.Duration
	// Model is its index in Trace.Models.
	Model int
	// Run is how long the call takes.
	Run time.Duration
}

// New makes the trace of cfg.
func New(cfg Config) Trace { return generate(cfg.withDefaults(), published()) }

func generate(cfg Config, f figures) Trace {
	t := Trace{Seed: cfg.Seed, Models: newModels(cfg, f)}
	season := newSeason(f, cfg.Duration)
	for i := range t.Models {
		t.Invocations = append(t.Invocations, invocations(cfg, season, i, &t.Models[i])...)
	}
	slices.SortStableFunc(t.Invocations, func(a, b Invocation) int { return cmp.Compare(a.At, b.At) })
	return t
}

// newModels draws the models. What is published as shares is spread over them evenly, so that
// sixty have the shares of the many thousands; which model has what is left to the seed.
func newModels(cfg Config, f figures) []Model {
	rng := stream(cfg.Seed, "models")
	models := make([]Model, cfg.Models)
	names := rng.Perm(cfg.Models)
	for i := range models {
		models[i].Name = fmt.Sprintf("model-%02d", names[i])
		models[i].Rate = min(f.rates.at(spread(rng, i, cfg.Models)), cfg.MaxRate)
	}
	setTriggers(rng, models, f)
	setVariations(rng, models, f)
	setSizes(rng, models, cfg.Memory)
	for i := range models {
		setRun(rng, &models[i], f)
	}
	rng.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
	return models
}

// setSizes gives the models their weights, each of sizes as often as any other. It draws again
// until those that are invoked every minute or more take four fifths of the memory at most,
// since with devices so small everything would be loaded all the time, whatever is evicted. After a hundred
// draws the last one is taken.
func setSizes(rng *rand.Rand, models []Model, memory int64) {
	all := sizes()
	for range 100 {
		var busy int64
		for i, weights := range rng.Perm(len(models)) {
			models[i].setSize(rng, all[weights%len(all)])
			if models[i].Rate >= perMinute {
				busy += models[i].Memory
			}
		}
		if busy <= memory/5*4 {
			return
		}
	}
}

// spread draws from the ith of n equal parts of [0, 1).
func spread(rng *rand.Rand, i, n int) float64 { return (float64(i) + rng.Float64()) / float64(n) }

// setTriggers says what invokes the models. A timer fires at most once a minute, as 95 % of
// them do, and in periods that people choose.
func setTriggers(rng *rand.Rand, models []Model, f figures) {
	var total, sum float64
	for _, s := range f.triggers {
		total += s.share
	}
	next := 0
	for i, place := range rng.Perm(len(models)) {
		for sum+f.triggers[next].share < total*(float64(i)+0.5)/float64(len(models)) {
			sum += f.triggers[next].share
			next++
		}
		models[place].Triggers = f.triggers[next].triggers
	}
	for i := range models {
		for models[i].Triggers == "T" && models[i].Rate > perMinute {
			other := rng.IntN(len(models))
			models[i].Triggers, models[other].Triggers = models[other].Triggers, models[i].Triggers
		}
	}
	for i := range models {
		if models[i].Triggers == "T" {
			models[i].Rate = period(models[i].Rate)
		}
	}
}

// perMinute is once a minute, in invocations a day.
const perMinute = 1440

// period returns the rate of a timer: every minute, 5, 15 or 30 minutes, hour, 12 hours, day or
// week, whichever is the next that is not more often.
func period(rate float64) float64 {
	for _, choice := range []float64{perMinute, 288, 96, 48, 24, 2, 1} {
		if choice <= rate {
			return choice
		}
	}
	return 1.0 / 7
}

// setVariations gives the models the coefficients of variation of all applications. Which model
// has which follows what models with its triggers have: the curves of the kinds are of those
// applications that were invoked often enough to have one, among whom timers are more frequent.
func setVariations(rng *rand.Rand, models []Model, f figures) {
	own := make([]float64, len(models))
	order := make([]int, len(models))
	for i := range models {
		own[i] = f.variationsOf(models[i].Triggers).at(rng.Float64())
		order[i] = i
	}
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] }) // of equals
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(own[a], own[b]) })
	for rank, i := range order {
		models[i].Variation = f.variations.at(spread(rng, rank, len(models)))
	}
}

// setRun draws how long the model's calls take. None takes longer than OpenWhisk lets it by
// default, and none keeps its instance busy for more than a twentieth of the time: this is
// about memory, and at a tenth some traces would ask for most of the time of both devices.
func setRun(rng *rand.Rand, m *Model, f figures) {
	seconds := math.Exp(f.runLogMean + f.runLogSigma*rng.NormFloat64())
	seconds = min(seconds, time.Minute.Seconds(), 0.05*day.Seconds()/m.Rate)
	m.Run = time.Duration(seconds * float64(time.Second))
}

// runSigma is of the logarithm of the times of one model: of a few hundred calls the shortest
// and the longest are then a factor of four away from the middle, as the medians of the
// published minima and maxima are.
const runSigma = 0.5

// invocations returns those of the ith model. Its process has gone on for long when the trace
// begins, so that it does not begin with an invocation of each model.
func invocations(cfg Config, s *season, i int, m *Model) []Invocation {
	rng := stream(cfg.Seed, fmt.Sprint("invocations ", i))
	gap := gaps(rng, m.Variation)
	steady := m.Variation < 0.25 || m.Triggers == "T" // a machine does not sleep at night
	perDay := m.Rate / day.Seconds()
	end := cfg.Duration.Seconds()
	var all []Invocation
	for at := -(500 + rng.Float64()) / perDay; ; at += gap() / perDay {
		when := at
		if !steady {
			when = s.when(at)
		}
		if when >= end {
			return all
		}
		if when >= 0 {
			run := float64(m.Run) * math.Exp(runSigma*rng.NormFloat64())
			all = append(all, Invocation{At: time.Duration(when * float64(time.Second)), Model: i, Run: time.Duration(run)})
		}
	}
}

// String describes the trace in one line.
func (t Trace) String() string {
	var memory int64
	for i := range t.Models {
		memory += t.Models[i].Memory
	}
	return fmt.Sprintf("seed %d: %d models, %.0f GB together, %d invocations", t.Seed, len(t.Models), float64(memory)/1e9, len(t.Invocations))
}

// A season bends time so that a process with an even rate has the rate of the hour.
type season struct {
	load []float64 // seconds of an even process that have passed by the ith minute
}

func newSeason(f figures, d time.Duration) *season {
	week := (5 + 2*f.weekend) / 7
	s := &season{load: []float64{0}}
	for minute := 0; float64(minute) <= d.Minutes(); minute++ {
		hour := math.Mod(float64(minute)/60, 24)
		rate := (1 + f.swing*math.Cos(2*math.Pi*(hour-14)/24)) / week // most at two in the afternoon
		if minute/perMinute%7 >= 5 {
			rate *= f.weekend
		}
		s.load = append(s.load, s.load[minute]+60*rate)
	}
	return s
}

// when returns the time at which so many seconds of an even process have passed. Time before
// the trace is even.
func (s *season) when(load float64) float64 {
	if load < 0 {
		return load
	}
	i, _ := slices.BinarySearch(s.load, load)
	if i == 0 {
		return 0
	}
	if i == len(s.load) {
		return float64(60 * i) // after the end
	}
	return 60 * (float64(i-1) + (load-s.load[i-1])/(s.load[i]-s.load[i-1]))
}
