package tracetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A Model is one function of a trace: a model, how it is invoked, and what it needs.
type Model struct {
	// Name is what the pool knows it by. It says nothing of the rest.
	Name string
	// Weights names the model that it is as large as.
	Weights string
	// Memory is how many bytes an instance holds of its device: Context from the beginning of
	// its start, the rest from when its weights are loaded.
	Memory, Context int64
	// Fixed is the part of a start that does not depend on the size, the interpreter with its
	// imports and the context of the device. Bandwidth is how many bytes of weights are loaded a
	// second after that.
	Fixed     time.Duration
	Bandwidth float64
	// Triggers are what invokes it, a letter for each kind: see triggerShare.
	Triggers string
	// Rate is how many invocations it has a day, and Variation is the coefficient of variation
	// of the times between them: 0 for a clock, 1 for a Poisson process, more for bursts.
	Rate, Variation float64
	// Run is how long an invocation takes in the middle.
	Run time.Duration
}

// contextMemory is what a CUDA context takes of a device beside the weights, in bytes.
const contextMemory = 500e6

// Load returns how long the model's nth start takes, from 0: the same model takes about the
// same time again, give or take a tenth.
func (m *Model) Load(seed uint64, n int) time.Duration {
	weights := float64(m.Memory-m.Context) / m.Bandwidth
	noise := math.Exp(0.1 * stream(seed, fmt.Sprint("load ", m.Name, n)).NormFloat64())
	return time.Duration((m.Fixed.Seconds() + weights) * noise * float64(time.Second))
}

// A size is a model that the models of a trace are as large as.
type size struct {
	name       string
	parameters float64 // in millions
	bytes      float64 // of one parameter
}

// sizes returns public models of the kinds that a GPU serves, with the numbers of parameters
// that their authors give, in the precision that they are published in.
func sizes() []size {
	return []size{
		{"all-MiniLM-L6", 22.7, 4},
		{"ResNet-50", 25.6, 4},
		{"YOLOv8x", 68.2, 4},
		{"BERT base", 110, 4},
		{"Whisper small", 244, 4},
		{"CLIP ViT-L/14", 428, 4},
		{"SAM ViT-H", 636, 4},
		{"Stable Diffusion 1.5", 1070, 2},
		{"Llama 3.2 1B", 1240, 2},
		{"NLLB-200 1.3B", 1370, 4},
		{"Whisper large v3", 1550, 2},
		{"Llama 3.2 3B", 3210, 2},
		{"MusicGen large", 3300, 2},
		{"SDXL base", 3500, 2},
		{"E5 Mistral 7B", 7110, 2},
		{"Mistral 7B", 7240, 2},
		{"Llama 3.1 8B", 8030, 2},
		{"Gemma 2 9B", 9240, 2},
		{"Llama 2 13B", 13000, 2},
		{"Qwen2.5 14B", 14700, 2},
	}
}

// memory returns how many bytes of a device a model of that size takes: its weights, a fifth of
// them for activations and the allocator's slack, and the context.
func (s size) memory() int64 { return int64(s.parameters*1e6*s.bytes*1.2) + contextMemory }

// setSize makes the model as large as s, and says how long it takes to load: between what
// PyTorch takes as it comes and what the disk can give.
func (m *Model) setSize(rng *rand.Rand, s size) {
	m.Weights, m.Memory, m.Context = s.name, s.memory(), contextMemory
	m.Fixed = time.Duration(between(rng, 2, 6) * float64(time.Second))
	m.Bandwidth = between(rng, 1.55e9, 7e9)
}

// between draws a number whose logarithm is evenly distributed.
func between(rng *rand.Rand, low, high float64) float64 {
	return low * math.Pow(high/low, rng.Float64())
}
