package tracetest

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// stream returns the random numbers of one purpose. Those of another do not depend on how many
// of these are drawn.
func stream(seed uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // a hash takes everything
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// gaps returns a source of the times between invocations: mean 1 and the coefficient of
// variation given. They are equal for 0 and gamma distributed above, exponentially for 1.
func gaps(rng *rand.Rand, variation float64) func() float64 {
	if variation == 0 {
		return func() float64 { return 1 }
	}
	shape := 1 / (variation * variation)
	return func() float64 { return gamma(rng, shape) / shape }
}

// gamma draws from the gamma distribution with that shape and scale 1, after Marsaglia and
// Tsang (2000): a cubed normal variate, accepted where it lies below the density.
func gamma(rng *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(rng, shape+1) * math.Pow(rng.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
