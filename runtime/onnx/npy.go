package onnx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The .npy format, versions 1 to 3: "\x93NUMPY", two bytes of version, the length of
// the header (two bytes in version 1, else four), the header, which is a Python
// dictionary of descr, fortran_order and shape, and the elements.

const npyMagic = "\x93NUMPY"

// npyTypes pairs the codes of numpy, without their byte order, with kinds. BF16 has no
// code.
func npyTypes() map[string]kind {
	return map[string]kind{
		"b1": bools, "u1": uint8s, "u2": uint16s, "u4": uint32s, "u8": uint64s,
		"i1": int8s, "i2": int16s, "i4": int32s, "i8": int64s,
		"f2": fp16, "f4": fp32, "f8": fp64,
	}
}

// parseNPY reads a .npy file. Its tensor is a copy.
func parseNPY(data []byte) (tensor, error) {
	head, body, err := splitNPY(data)
	if err != nil {
		return tensor{}, err
	}
	descr, fortran, shape, err := parseNPYHeader(head)
	if err != nil {
		return tensor{}, fmt.Errorf("the header of the .npy file: %w", err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if strings.HasPrefix(descr, ">") {
		order = binary.BigEndian
	}
	k, ok := npyTypes()[strings.TrimLeft(descr, "<>|=")]
	if !ok {
		return tensor{}, fmt.Errorf("the .npy file has elements of type %q; save booleans, integers or floats", descr)
	}
	if fortran && len(shape) > 1 {
		return tensor{}, errors.New("the .npy file is in Fortran order; save numpy.ascontiguousarray(a)")
	}
	n := elements(shape, math.MaxInt64)
	size := elementSize(k)
	if n < 0 || n != int64(len(body)/size) || len(body)%size != 0 {
		return tensor{}, fmt.Errorf("the .npy file has %d bytes for a shape of %s, elements of %d bytes", len(body), shapeText(shape), size)
	}
	t := tensor{k, shape, makeData(k, int(n))}
	if _, err := binary.Decode(body, order, t.data); err != nil {
		return tensor{}, err
	}
	return t, nil
}

func splitNPY(data []byte) (head string, body []byte, err error) {
	if !bytes.HasPrefix(data, []byte(npyMagic)) {
		return "", nil, errors.New(`this is not a .npy file (it does not begin with \x93NUMPY)`)
	}
	cut := errors.New("the .npy file is cut short")
	if len(data) < 12 {
		return "", nil, cut
	}
	var size uint64
	switch data[6] {
	case 1:
		size, data = uint64(binary.LittleEndian.Uint16(data[8:])), data[10:]
	case 2, 3:
		size, data = uint64(binary.LittleEndian.Uint32(data[8:])), data[12:]
	default:
		return "", nil, fmt.Errorf("the .npy file has version %d, want 1, 2 or 3", data[6])
	}
	if size > uint64(len(data)) {
		return "", nil, cut
	}
	return string(data[:size]), data[size:], nil
}

// parseNPYHeader reads the dictionary. Keys may come in any order.
func parseNPYHeader(head string) (descr string, fortran bool, shape []int64, err error) {
	inner, opened := strings.CutPrefix(strings.TrimSpace(head), "{")
	inner, ok := strings.CutSuffix(inner, "}")
	if !opened || !ok {
		return "", false, nil, errors.New("it is not a dictionary")
	}
	seen := map[string]bool{}
	for rest := strings.TrimSpace(inner); rest != ""; rest = strings.TrimLeft(rest, ", ") {
		var key, value string
		if key, rest, ok = cutQuoted(rest); !ok || seen[key] {
			return "", false, nil, fmt.Errorf("got %.40q, want a key", rest)
		}
		seen[key] = true
		if rest, ok = strings.CutPrefix(strings.TrimSpace(rest), ":"); !ok {
			return "", false, nil, fmt.Errorf("key %.40q has no value", key)
		}
		rest = strings.TrimSpace(rest)
		switch key {
		case "descr":
			descr, rest, ok = cutQuoted(rest)
		case "fortran_order":
			value, rest, ok = cutWord(rest)
			fortran = value == "True"
			ok = ok && (fortran || value == "False")
		case "shape":
			shape, rest, ok = cutShape(rest)
		default:
			ok = false
		}
		if !ok {
			return "", false, nil, fmt.Errorf("key %.40q has a value that is not understood", key)
		}
	}
	if len(seen) != 3 {
		return "", false, nil, errors.New("it must have descr, fortran_order and shape")
	}
	return descr, fortran, shape, nil
}

func cutQuoted(s string) (word, rest string, ok bool) {
	if s == "" || s[0] != '\'' && s[0] != '"' {
		return "", s, false
	}
	return strings.Cut(s[1:], s[:1])
}

func cutWord(s string) (word, rest string, ok bool) {
	i := strings.IndexAny(s, ", ")
	if i < 0 {
		i = len(s)
	}
	return s[:i], s[i:], i > 0
}

func cutShape(s string) (shape []int64, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, "(")
	if !ok {
		return nil, s, false
	}
	inner, rest, ok := strings.Cut(s, ")")
	if !ok {
		return nil, s, false
	}
	shape = []int64{}
	inner = strings.TrimSpace(inner)
	if inner == "" {
		return shape, rest, true
	}
	for d := range strings.SplitSeq(strings.TrimSuffix(inner, ","), ",") {
		// Python 2 wrote an L behind long integers.
		v, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(d), "L"), 10, 64)
		if err != nil || v < 0 || len(shape) == maxRank {
			return nil, rest, false
		}
		shape = append(shape, v)
	}
	return shape, rest, true
}

// writeNPY writes version 1.
func writeNPY(t tensor) ([]byte, error) {
	code := ""
	for c, k := range npyTypes() {
		if k == t.kind {
			code = c
		}
	}
	if code == "" {
		return nil, fmt.Errorf("a .npy file cannot hold %s; ask for application/json", t.kind)
	}
	order := "<"
	if elementSize(t.kind) == 1 {
		order = "|"
	}
	dims := strings.Builder{}
	for _, d := range t.shape {
		fmt.Fprintf(&dims, "%d, ", d)
	}
	list := strings.TrimSuffix(dims.String(), " ")
	if len(t.shape) > 1 {
		list = strings.TrimSuffix(list, ",")
	}
	head := fmt.Sprintf("{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", order, code, list)
	// The elements begin at a multiple of 64 bytes; the header ends with a newline.
	fill := 63 - (len(npyMagic)+4+len(head))%64
	b := make([]byte, 0, len(npyMagic)+4+len(head)+fill+1+binary.Size(t.data))
	b = append(b, npyMagic+"\x01\x00"...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(head)+fill+1))
	b = append(b, head+strings.Repeat(" ", fill)+"\n"...)
	return binary.Append(b, binary.LittleEndian, t.data)
}

func elementSize(k kind) int {
	switch k {
	case uint8s, int8s, bools:
		return 1
	case uint16s, int16s, fp16, bf16:
		return 2
	case fp64, int64s, uint64s:
		return 8
	case fp32, int32s, uint32s, strs:
	}
	return 4
}

// makeData makes the slice of a kind.
func makeData(k kind, n int) any {
	switch k {
	case uint8s:
		return make([]uint8, n)
	case int8s:
		return make([]int8, n)
	case uint16s, fp16, bf16:
		return make([]uint16, n)
	case int16s:
		return make([]int16, n)
	case int32s:
		return make([]int32, n)
	case int64s:
		return make([]int64, n)
	case strs:
		return make([]string, n)
	case bools:
		return make([]bool, n)
	case fp64:
		return make([]float64, n)
	case uint32s:
		return make([]uint32, n)
	case uint64s:
		return make([]uint64, n)
	case fp32:
	}
	return make([]float32, n)
}
