package tracetest

import (
	"math"
	"slices"
	"strings"
)

// figures are what has been published about invocations, as this package uses it. The tests
// change one to see that a wrong one is noticed.
type figures struct {
	// rates is how many applications are invoked how often, in invocations a day.
	rates curve
	// variations is how many applications have which coefficient of variation of the times
	// between their invocations; onlyTimers, someTimers and noTimers are the same for three
	// kinds of application.
	variations, onlyTimers, someTimers, noTimers curve
	// triggers is how many applications are invoked by what.
	triggers []triggerShare
	// runLogMean and runLogSigma are of the logarithm of an application's average time of
	// execution in seconds.
	runLogMean, runLogSigma float64
	// swing is how far the invocations of an hour go above and below the day's mean, as a share
	// of it, and weekend is the load of a day at the weekend beside one of the week.
	swing, weekend float64
}

// A curve is a distribution function: its points in ascending order.
type curve []point

// A point says that this share of the applications has at most value.
type point struct{ value, share float64 }

// A triggerShare says that this share of the applications has these triggers. H is HTTP, T
// timer, Q queue, E event, S storage, O orchestration and o any other.
type triggerShare struct {
	triggers string
	share    float64
}

// published returns the figures of Shahrad et al., Serverless in the Wild (USENIX ATC 2020),
// sections 3.2 to 3.5: those that its text states, and between them what can be read from the
// plots in the notebook of the public data set (figures 4 to 7 there).
func published() figures {
	return figures{
		rates: curve{
			{0.07, 0.04},
			{1, 0.21},
			{2, 0.26},
			{10, 0.38},
			{24, 0.45},
			{96, 0.55},
			{288, 0.65},
			{1440, 0.814},
			{1e4, 0.925},
			{86400, 0.98},
			{1e6, 0.995},
			{1e8, 1},
		},
		variations: curve{{0, 0.20}, {0.2, 0.33}, {0.5, 0.45}, {1, 0.60}, {2, 0.72}, {4, 0.86}, {6, 0.905}, {10, 0.95}, {20, 1}},
		onlyTimers: curve{{0, 0.45}, {0.2, 0.70}, {0.5, 0.85}, {1, 0.94}, {2, 0.98}, {4, 1}},
		someTimers: curve{{0, 0.14}, {0.2, 0.28}, {0.5, 0.46}, {1, 0.62}, {2, 0.77}, {4, 0.87}, {10, 0.95}, {20, 1}},
		noTimers:   curve{{0, 0.11}, {0.5, 0.23}, {1, 0.345}, {2, 0.55}, {4, 0.76}, {6, 0.845}, {10, 0.915}, {20, 1}},
		triggers: []triggerShare{
			{"H", 0.4327},
			{"T", 0.1336},
			{"Q", 0.0947},
			{"HT", 0.0459},
			{"HQ", 0.0422},
			{"E", 0.0301},
			{"S", 0.0280},
			{"TQ", 0.0257},
			{"HTQ", 0.0248},
			{"Ho", 0.0169},
			{"HS", 0.0105},
			{"HO", 0.0103},
			{"HTo", 0.0084},
			// The plot ends here, at 90.4 %. 15.8 % of all have timers beside others.
			{"TO", 0.0532},
			{"o", 0.0430},
		},
		runLogMean: -0.38, runLogSigma: 2.36,
		swing: 1.0 / 3, weekend: 0.85,
	}
}

// at returns the value that this share of the applications does not exceed. Between two points
// it goes with the logarithm, or straight from a value of zero.
func (c curve) at(share float64) float64 {
	i, _ := slices.BinarySearchFunc(c, share, func(p point, share float64) int {
		if p.share < share {
			return -1
		}
		return 1
	})
	if i == 0 {
		return c[0].value
	}
	if i == len(c) {
		return c[i-1].value
	}
	a, b := c[i-1], c[i]
	way := (share - a.share) / (b.share - a.share)
	if a.value == 0 {
		return way * b.value
	}
	return a.value * math.Pow(b.value/a.value, way)
}

// variationsOf returns the curve of applications with these triggers.
func (f figures) variationsOf(triggers string) curve {
	switch {
	case triggers == "T":
		return f.onlyTimers
	case strings.Contains(triggers, "T"):
		return f.someTimers
	default:
		return f.noTimers
	}
}
