package onnx

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func equal(t *testing.T, want, got tensor) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(tensor{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The golden files are what numpy.save writes.
func TestNPYAgainstNumpy(t *testing.T) {
	want := map[string]tensor{
		"f4.npy":     {fp32, []int64{2, 3}, []float32{0, 0.5, 1, 1.5, 2, 2.5}},
		"f8.npy":     {fp64, []int64{3}, []float64{0.1, -2, 1e300}},
		"f2.npy":     {fp16, []int64{2}, []uint16{0x3e00, 0xfbff}},
		"i8.npy":     {int64s, []int64{2, 1}, []int64{-1, 1 << 40}},
		"u1.npy":     {uint8s, []int64{4}, []uint8{0, 1, 254, 255}},
		"b1.npy":     {bools, []int64{2}, []bool{true, false}},
		"big.npy":    {int32s, []int64{2}, []int32{1, -2}},
		"scalar.npy": {fp32, []int64{}, []float32{7}},
		"empty.npy":  {fp32, []int64{0, 3}, []float32{}},
		"v2.npy":     {fp32, []int64{1}, []float32{2}},
		"v3.npy":     {fp32, []int64{1}, []float32{2}},
	}
	for name, w := range want {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", "npy", name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseNPY(data)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, w, got)
			written, err := writeNPY(got)
			if err != nil {
				t.Fatal(err)
			}
			if name[0] != 'v' && name != "big.npy" && len(w.shape) != 0 && !bytes.Equal(written, data) {
				// numpy leaves room for a growing shape; the dictionary must agree.
				head, body, _ := splitNPY(written)
				wantHead, wantBody, _ := splitNPY(data)
				if strings.TrimSpace(head) != strings.TrimSpace(wantHead) || !bytes.Equal(body, wantBody) {
					t.Errorf("got %q, want %q", written, data)
				}
			}
			if len(written)%64 != binary.Size(w.data)%64 {
				t.Errorf("got a header of %d bytes, want a multiple of 64", len(written)-binary.Size(w.data))
			}
		})
	}
}

func npyFile(head string, body string) []byte {
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(head)))
	return append(append(b, head...), body...)
}

func TestNPYRefuses(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not a .npy file"},
		{"magic", []byte(npyMagic), "cut short"},
		{"version", append([]byte(npyMagic), 9, 0, 0, 0, 0, 0), "has version 9, want 1, 2 or 3"},
		{"long header", append([]byte(npyMagic), 2, 0, 255, 255, 255, 255), "cut short"},
		{"no dictionary", npyFile("hello", ""), "not a dictionary"},
		{"missing key", npyFile("{'descr': '<f4', 'shape': (1,)}", "1234"), "it must have descr, fortran_order and shape"},
		{"fortran", npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1)}", "1234"), "save numpy.ascontiguousarray(a)"},
		{"objects", npyFile("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "1234"), `elements of type "|O"`},
		{"texts", npyFile("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", "1234"), `elements of type "<U1"`},
		{"records", npyFile("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234"), `key "descr" has a value that is not understood`},
		{"short", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "1234"), "has 4 bytes for a shape of [2], elements of 4 bytes"},
		{"long", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "12345"), "has 5 bytes for a shape of [1]"},
		{"negative", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", ""), `key "shape"`},
		{"overflow", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", ""), "has 0 bytes for a shape of"},
		{"overflow to nothing", npyFile("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 2)}", ""), "has 0 bytes for a shape of"},
	}
	for _, tt := range tests {
		if _, err := parseNPY(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestParseNested(t *testing.T) {
	tests := []struct {
		in   string
		want string // the shape, or the error
	}{
		{"1", "[]"},
		{"[]", "[0]"},
		{"[[],[]]", "[2,0]"},
		{" [ [1 , 2] , [3,4] ] ", "[2,2]"},
		{"[[[1]],[[2]]]", "[2,1,1]"},
		{"", "the value is cut short"},
		{"[1", "the value is cut short"},
		{"[1 2]", `got "2]", want a comma or ]`},
		{"[1,]", "element 1: got nothing, want a number (FP32)"},
		{"[1] 2", `got "2" behind the end`},
		{"[[1],2]", "a number stands where a list is expected, after 1 numbers"},
		{"[1,[2]]", "a list stands where a number is expected, after 1 numbers"},
		{"[[],[1]]", "the lists are of different lengths: 0 and 1, after 1 numbers"},
		{"[[],1]", "a number stands where a list is expected, after 0 numbers"},
		{"[[],[[]]]", "a list stands where a number is expected, after 0 numbers"},
		{"[null]", "element 0: got null, want a number (FP32)"},
		{"{}", `the object has no "data"`},
		{`{"data": [1,2,3], "shape": [2,2]}`, "got 3 numbers for a shape of [2,2]"},
		{`{"data": [1,2,3], "shape": [-3]}`, "got 3 numbers for a shape of [?]"},
		{`{"data": [], "shape": [0, 5]}`, "[0,5]"},
		{`{"data": [1,2,3], "shape": [3.0, 1e0]}`, "[3,1]"},
		{`{"data": [1,2,3], "shape": [3.5]}`, "shape: got 3.5, want whole numbers"},
		{`{"data": [1,2,3], "shape": ["3"]}`, `shape: got "3", want whole numbers`},
		{`{"data": [1,2,3], "shape": [1e99]}`, "shape: got 1e99, want whole numbers"},
		{`{"data": [1,2,3], "shape": 3}`, "shape: got 3, want a list of whole numbers"},
		{`{"data": [1,2,3], "shape": null}`, "[3]"},
		{`{"data": [1], "datatype": 5}`, "datatype: got number, want a string"},
		{strings.Repeat("[", 40) + strings.Repeat("]", 40), "lists are nested more than 32 deep"},
	}
	for _, tt := range tests {
		got, err := parseTensor(json.RawMessage(tt.in), fp32)
		text := shapeText(got.shape)
		if err != nil {
			text = err.Error()
		}
		if text != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, text, tt.want)
		}
	}
}

func TestElementsOfKinds(t *testing.T) {
	long := strings.Repeat("x", 50)
	tests := []struct {
		in   string
		kind kind
		want string
	}{
		{"[1, 65519]", fp16, ""},
		{"[1, 65520]", fp16, "element 1: 65520 is out of the range of FP16"},
		{"3.38e38", bf16, ""},
		{"-3.4e38", bf16, "element 0: -3.4e38 is out of the range of BF16"},
		{"1e309", fp64, "element 0: 1e309 is out of the range of FP64"},
		{"256", uint8s, "element 0: 256 is out of the range of UINT8"},
		{"1.5", int64s, "element 0: got 1.5, want a whole number (INT64)"},
		{"1", bools, "element 0: got 1, want true or false (BOOL)"},
		{"1", strs, "element 0: got 1, want a string (BYTES)"},
		{`"` + long + `"`, fp32, `element 0: got the string "` + long[:39] + "…, want a number (FP32)"},
		{"\x00\xff", fp32, "element 0: got \ufffd\ufffd, want a number (FP32)"},
	}
	for _, tt := range tests {
		got := ""
		if _, err := parseTensor(json.RawMessage(tt.in), tt.kind); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s as %s: got %q, want %q", tt.in, tt.kind, got, tt.want)
		}
	}
}

func TestNumpysDefaults(t *testing.T) {
	got, err := tensor{fp64, []int64{3}, []float64{math.Inf(-1), 3e38, 1e-300}}.as(fp32)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, tensor{fp32, []int64{3}, []float32{float32(math.Inf(-1)), 3e38, 0}}, got)
	_, err = tensor{int64s, []int64{2}, []int64{1, 1 << 40}}.as(int32s)
	if want := "element 1: 1099511627776 is out of the range of INT32"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestHalfFloats(t *testing.T) {
	for bits := range 1 << 16 {
		h := uint16(bits)
		if f := halfToFloat(h); floatToHalf(f) != h && !math.IsNaN(float64(f)) {
			t.Fatalf("half %#04x: got %#04x through %v", h, floatToHalf(f), f)
		}
		if f := brainToFloat(h); floatToBrain(f) != h && !math.IsNaN(float64(f)) {
			t.Fatalf("bfloat16 %#04x: got %#04x through %v", h, floatToBrain(f), f)
		}
	}
	// Halfway cases go to the even neighbour; 65520 is the first that is infinite.
	for f, want := range map[float32]uint16{
		1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02, 65519.996: 0x7bff, 65520: 0x7c00,
		1.0 / (1 << 25): 0, 3.0 / (1 << 25): 2, -1.0 / (1 << 24): 0x8001,
	} {
		if got := floatToHalf(f); got != want {
			t.Errorf("%v: got %#04x, want %#04x", f, got, want)
		}
	}
	nan := float32(math.NaN())
	if !math.IsNaN(float64(halfToFloat(floatToHalf(nan)))) || !math.IsNaN(float64(brainToFloat(floatToBrain(nan)))) {
		t.Error("got a number from what is none")
	}
}

func FuzzNPY(f *testing.F) {
	paths, err := filepath.Glob("testdata/npy/*")
	if err != nil || len(paths) == 0 {
		f.Fatalf("got %d files and %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseNPY(data)
		if err != nil {
			return
		}
		written, err := writeNPY(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseNPY(written)
		// NaN is not equal to itself, so texts are compared.
		if err != nil || fmt.Sprint(got) != fmt.Sprint(again) {
			t.Errorf("got %v and %v, want %v", again, err, got)
		}
	})
}

func FuzzTensorJSON(f *testing.F) {
	for _, s := range []string{"1", "[[1,2],[3,4]]", "[[],[]]", `{"data":[1,2],"shape":[2,1],"datatype":"FP32"}`, `["a\"","é"]`, "[true]"} {
		for _, k := range []kind{fp32, int64s, strs, bools} {
			f.Add([]byte(s), int(k))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, number int) {
		k := kind(number)
		if !k.known() {
			return
		}
		got, err := parseTensor(data, k)
		if err != nil || !json.Valid(data) {
			return
		}
		b, err := appendTensor(nil, got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseTensor(b, k)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		equal(t, got, again)
	})
}

func FuzzModel(f *testing.F) {
	f.Add(addition().Bytes())
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = parseModel(data)
	})
}
