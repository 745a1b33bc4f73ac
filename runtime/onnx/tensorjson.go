package onnx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

// maxRank is the most dimensions that a tensor may have.
const maxRank = 32

// parseTensor reads a tensor in JSON: nested lists, a single value, or an object with
// data (nested or flat), shape and datatype, of which the last two may be missing. The
// elements become those of the kind k. Lists without elements have the shapes [0],
// [2,0] and so on.
func parseTensor(data json.RawMessage, k kind) (tensor, error) {
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' {
		return parseNested(data, k)
	}
	var o struct {
		Data     json.RawMessage `json:"data"`
		Shape    sizes           `json:"shape"`
		Datatype string          `json:"datatype"`
	}
	if err := actions.DecodeStrict(data, &o); err != nil {
		return tensor{}, err
	}
	if len(o.Data) == 0 {
		return tensor{}, errors.New(`the object has no "data"`)
	}
	if said, ok := kindNamed(o.Datatype); o.Datatype != "" && (!ok || said != k) {
		return tensor{}, fmt.Errorf("got datatype %q, want %s", o.Datatype, k)
	}
	t, err := parseNested(o.Data, k)
	if err != nil || o.Shape == nil {
		return t, err
	}
	have := elements(t.shape, math.MaxInt64)
	if len(o.Shape) > maxRank || elements(o.Shape, math.MaxInt64) != have {
		return tensor{}, fmt.Errorf("got %d numbers for a shape of %s", have, shapeText(o.Shape))
	}
	t.shape = o.Shape
	return t, nil
}

// sizes are whole numbers, however they are written: some languages write 3 as 3.0.
type sizes []int64

// UnmarshalJSON reads a list of numbers.
func (s *sizes) UnmarshalJSON(data []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		return fmt.Errorf("shape: got %s, want a list of whole numbers", excerpt(string(data)))
	}
	*s = nil
	if list != nil {
		*s = make(sizes, len(list))
	}
	for i, text := range list {
		v, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			f, err := strconv.ParseFloat(string(text), 64)
			if v = int64(f); err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
				return fmt.Errorf("shape: got %s, want whole numbers", excerpt(string(text)))
			}
		}
		(*s)[i] = v
	}
	return nil
}

func parseNested(data []byte, k kind) (tensor, error) {
	n := nested{rest: string(data), kind: k}
	var err error
	t := tensor{kind: k}
	switch k {
	case fp32:
		t.data, err = collect(&n, func(s string) (float32, error) { v, err := strconv.ParseFloat(s, 32); return float32(v), err })
	case fp64:
		t.data, err = collect(&n, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	case fp16:
		t.data, err = collect(&n, func(s string) (uint16, error) { return rounded(s, floatToHalf, 0x7c00) })
	case bf16:
		t.data, err = collect(&n, func(s string) (uint16, error) { return rounded(s, floatToBrain, 0x7f80) })
	case uint8s:
		t.data, err = collect(&n, unsigned[uint8](8))
	case uint16s:
		t.data, err = collect(&n, unsigned[uint16](16))
	case uint32s:
		t.data, err = collect(&n, unsigned[uint32](32))
	case uint64s:
		t.data, err = collect(&n, unsigned[uint64](64))
	case int8s:
		t.data, err = collect(&n, signed[int8](8))
	case int16s:
		t.data, err = collect(&n, signed[int16](16))
	case int32s:
		t.data, err = collect(&n, signed[int32](32))
	case int64s:
		t.data, err = collect(&n, signed[int64](64))
	case bools:
		t.data, err = collect(&n, boolean)
	case strs:
		t.data, err = collect(&n, quoted)
	}
	if err != nil {
		return tensor{}, err
	}
	t.shape = n.shape
	return t, nil
}

func signed[T int8 | int16 | int32 | int64](bits int) func(string) (T, error) {
	return func(s string) (T, error) { v, err := strconv.ParseInt(s, 10, bits); return T(v), err }
}

func unsigned[T uint8 | uint16 | uint32 | uint64](bits int) func(string) (T, error) {
	return func(s string) (T, error) { v, err := strconv.ParseUint(s, 10, bits); return T(v), err }
}

// rounded parses a number of 16 bits, of which inf are those of infinity.
func rounded(s string, round func(float32) uint16, inf uint16) (uint16, error) {
	v, err := strconv.ParseFloat(s, 32)
	bits := round(float32(v))
	if err == nil && bits&0x7fff == inf {
		err = strconv.ErrRange
	}
	return bits, err
}

func boolean(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, strconv.ErrSyntax
	}
	return s == "true", nil
}

func quoted(s string) (v string, err error) {
	err = json.Unmarshal([]byte(s), &v)
	return v, err
}

// nested walks a JSON value of lists of lists. The value need not be valid JSON
// otherwise; whatever is wrong is found.
type nested struct {
	kind  kind
	rest  string
	shape []int64
	deep  bool // the depth of the elements is known
	n     int  // elements so far
}

// collect returns the elements of n and leaves their shape in it.
func collect[T any](n *nested, parse func(string) (T, error)) ([]T, error) {
	// There is at most one element more than commas.
	out := make([]T, 0, strings.Count(n.rest, ",")+1)
	err := n.walk(0, func(token string) error {
		v, err := parse(token)
		if err != nil {
			return n.wrong(len(out), token, err)
		}
		out = append(out, v)
		return nil
	})
	if err == nil && len(n.space()) > 0 {
		err = fmt.Errorf("got %.20q behind the end", n.rest)
	}
	n.shape = slices.Clip(n.shape)
	if n.shape == nil {
		n.shape = []int64{}
	}
	return out, err
}

// wrong says what is wrong with element i. A string is shown as it is sent, and not
// quoted again: JSON, in which people read this, quotes it once more.
func (n *nested) wrong(i int, token string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return outOfRange(i, excerpt(token), n.kind)
	}
	want := "a whole number"
	switch n.kind {
	case fp32, fp64, fp16, bf16:
		want = "a number"
	case bools:
		want = "true or false"
	case strs:
		want = "a string"
	default:
	}
	switch {
	case token == "":
		token = "nothing"
	case token[0] == '"':
		token = "the string " + excerpt(token)
	default:
		token = excerpt(token)
	}
	return fmt.Errorf("element %d: got %s, want %s (%s)", i, token, want, n.kind)
}

// excerpt returns the beginning of a text, without what cannot be printed.
func excerpt(s string) string {
	const most = 40
	printable := func(r rune) rune {
		if !strconv.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}
	if len(s) <= most {
		return strings.Map(printable, s)
	}
	return strings.Map(printable, strings.ToValidUTF8(s[:most], "")) + "…"
}

// space skips white space and returns what comes behind it.
func (n *nested) space() string {
	for len(n.rest) > 0 && isSpace(n.rest[0]) {
		n.rest = n.rest[1:]
	}
	return n.rest
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

func (n *nested) walk(depth int, element func(string) error) error {
	if len(n.space()) == 0 {
		return errors.New("the value is cut short")
	}
	if n.rest[0] != '[' {
		return n.scalar(depth, element)
	}
	if depth == maxRank {
		return fmt.Errorf("lists are nested more than %d deep", maxRank)
	}
	if n.deep && depth >= len(n.shape) {
		return fmt.Errorf("a list stands where a number is expected, after %d numbers", n.n)
	}
	n.rest = n.rest[1:]
	first := depth == len(n.shape)
	if first {
		n.shape = append(n.shape, -1)
	}
	count := int64(0)
	for len(n.space()) > 0 && n.rest[0] != ']' {
		if count > 0 {
			if n.rest[0] != ',' {
				return fmt.Errorf("got %.20q, want a comma or ]", n.rest)
			}
			n.rest = n.rest[1:]
		}
		if err := n.walk(depth+1, element); err != nil {
			return err
		}
		count++
	}
	if len(n.rest) == 0 {
		return errors.New("the value is cut short")
	}
	n.rest = n.rest[1:]
	if n.shape[depth] >= 0 && n.shape[depth] != count {
		return fmt.Errorf("the lists are of different lengths: %d and %d, after %d numbers", n.shape[depth], count, n.n)
	}
	n.shape[depth] = count
	if count == 0 {
		n.deep = true // nothing lies deeper
	}
	return nil
}

func (n *nested) scalar(depth int, element func(string) error) error {
	if depth != len(n.shape) {
		return fmt.Errorf("a number stands where a list is expected, after %d numbers", n.n)
	}
	n.deep = true
	end := 0
	if n.rest[0] == '"' {
		end = endOfString(n.rest)
	}
	for end < len(n.rest) && n.rest[end] != ',' && n.rest[end] != ']' && !isSpace(n.rest[end]) {
		end++
	}
	token := n.rest[:end]
	n.rest = n.rest[end:]
	n.n++
	return element(token)
}

func endOfString(b string) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// appendTensor writes {"datatype", "shape", "data"}, the data flat. What JSON cannot
// write, NaN and infinities, is null.
func appendTensor(b []byte, t tensor) ([]byte, error) {
	b = append(b, `{"datatype":"`+t.kind.String()+`","shape":[`...)
	for i, d := range t.shape {
		b = strconv.AppendInt(comma(b, i), d, 10)
	}
	b = append(b, `],"data":[`...)
	switch d := t.data.(type) {
	case []string:
		for i, v := range d {
			text, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			b = append(comma(b, i), text...)
		}
	case []bool:
		for i, v := range d {
			b = strconv.AppendBool(comma(b, i), v)
		}
	case []float64:
		b = appendFloats(b, d, 64)
	case []int64:
		b = appendInts(b, d)
	case []int32:
		b = appendInts(b, d)
	case []int16:
		b = appendInts(b, d)
	case []int8:
		b = appendInts(b, d)
	case []uint64:
		for i, v := range d {
			b = strconv.AppendUint(comma(b, i), v, 10)
		}
	case []uint32:
		b = appendInts(b, d)
	case []uint8:
		b = appendInts(b, d)
	default:
		if d, ok := t.data.([]uint16); ok && t.kind == uint16s {
			b = appendInts(b, d)
		} else {
			b = appendFloats(b, t.floats(), 32)
		}
	}
	return append(b, "]}"...), nil
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

func appendInts[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](b []byte, d []T) []byte {
	for i, v := range d {
		b = strconv.AppendInt(comma(b, i), int64(v), 10)
	}
	return b
}

func appendFloats[T float32 | float64](b []byte, d []T, bits int) []byte {
	for i, v := range d {
		b = comma(b, i)
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, f, 'g', -1, bits)
		}
	}
	return b
}
