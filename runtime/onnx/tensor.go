package onnx

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A kind is the type of a tensor's elements, by ONNX's numbers.
type kind int

const (
	fp32 kind = 1 + iota
	uint8s
	int8s
	uint16s
	int16s
	int32s
	int64s
	strs
	bools
	fp16
	fp64
	uint32s
	uint64s
	_ // complex numbers of 64 bits
	_ // and of 128
	bf16
)

// kindNames are the names of the Open Inference Protocol, by kind.
func kindNames() []string {
	return []string{
		"", "FP32", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BYTES",
		"BOOL", "FP16", "FP64", "UINT32", "UINT64", "", "", "BF16",
	}
}

func (k kind) String() string {
	names := kindNames()
	if k > 0 && int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("type %d", int(k))
}

// known says whether tensors of this kind can be handled.
func (k kind) known() bool {
	names := kindNames()
	return k > 0 && int(k) < len(names) && names[k] != ""
}

func kindNamed(name string) (kind, bool) {
	i := slices.Index(kindNames(), name)
	return kind(i), i > 0 && name != ""
}

// A tensor is an array of numbers, row by row.
type tensor struct {
	kind  kind
	shape []int64
	// data is a slice of what kind says: []float32, []uint8, …, []bool, []string. FP16
	// and BF16 are []uint16, their bits.
	data any
}

// elements multiplies a shape. It returns -1 when a dimension is negative or the
// product exceeds limit.
func elements(shape []int64, limit int64) int64 {
	n := int64(1)
	if slices.Contains(shape, 0) {
		n = 0
	}
	for _, d := range shape {
		if d < 0 || n > 0 && d > limit/n {
			return -1
		}
		n *= d
	}
	return n
}

// floats returns the elements as float32, without a copy where they are. It is for
// outputs that are probabilities; strings give nil.
func (t tensor) floats() []float32 {
	switch d := t.data.(type) {
	case []float32:
		return d
	case []float64:
		return mapped(d, func(v float64) float32 { return float32(v) })
	case []uint16:
		if t.kind == fp16 {
			return mapped(d, halfToFloat)
		}
		if t.kind == bf16 {
			return mapped(d, brainToFloat)
		}
	}
	return nil
}

// as converts numpy's default kinds to the kinds that models have; every other
// difference is refused.
func (t tensor) as(k kind) (tensor, error) {
	if t.kind == k {
		return t, nil
	}
	switch d := t.data.(type) {
	case []float64:
		if k == fp32 {
			for i, v := range d {
				// Infinity that was sent as such is one.
				if math.IsInf(float64(float32(v)), 0) && !math.IsInf(v, 0) {
					return tensor{}, outOfRange(i, strconv.FormatFloat(v, 'g', -1, 64), k)
				}
			}
			return tensor{k, t.shape, mapped(d, func(v float64) float32 { return float32(v) })}, nil
		}
	case []int64:
		if k == int32s {
			for i, v := range d {
				if v != int64(int32(v)) {
					return tensor{}, outOfRange(i, strconv.FormatInt(v, 10), k)
				}
			}
			return tensor{k, t.shape, mapped(d, func(v int64) int32 { return int32(v) })}, nil
		}
	}
	return tensor{}, fmt.Errorf("got elements of type %s, want %s", t.kind, k)
}

// outOfRange says which element, counted in row order from 0, a kind cannot hold.
func outOfRange(i int, value string, k kind) error {
	return fmt.Errorf("element %d: %s is out of the range of %s", i, value, k)
}

func mapped[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// shapeText writes a shape for people: ? is any size.
func shapeText(shape []int64) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, d := range shape {
		if i > 0 {
			b.WriteByte(',')
		}
		if d < 0 {
			b.WriteByte('?')
		} else {
			fmt.Fprint(&b, d)
		}
	}
	return b.String() + "]"
}

// halfToFloat and its three siblings convert the bits of FP16 and BF16. Numbers are
// rounded to the nearest, halves to even.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exp {
	case 0:
		f := float32(frac) / (1 << 24)
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

func floatToHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign, bits := uint16(bits>>16)&0x8000, bits&0x7fffffff
	switch {
	case bits > 0xff<<23: // not a number
		return sign | 0x7e00
	case bits >= 0x477ff000: // rounds to infinity
		return sign | 0x7c00
	case bits < 0x38800000: // below the normal numbers: count steps of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(bits))*(1<<24)))
	}
	bits -= (127 - 15) << 23
	return sign | uint16((bits+0xfff+bits>>13&1)>>13)
}

func brainToFloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

func floatToBrain(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&0x7fffffff > 0xff<<23 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
