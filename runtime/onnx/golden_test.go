package onnx

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

func golden(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance }

// text is the answer of a text line.
type text struct {
	Text  string
	Score float64
}

func TestStepsAgainstNumpy(t *testing.T) {
	var g struct {
		Logits     []float32
		Order      []int
		Scores     []float64
		Characters []string
		Steps      [][]float32
		Text       string
		TextScore  float64 `json:"text_score"`
	}
	golden(t, "steps.json", &g)

	labels := []string{"a", "b", "c", "d", "e", "f", "g"}
	c := &classifier{softmax: true, labels: labels, top: 7}
	got := answerOf[struct{ Labels []label }](t, c.answer, tensor{fp32, []int64{1, 7}, g.Logits})
	for i, l := range got.Labels {
		if l.Label != labels[g.Order[i]] || !near(l.Score, g.Scores[i], 1e-12) {
			t.Errorf("label %d: got %v, want %s %v", i, l, labels[g.Order[i]], g.Scores[i])
		}
	}

	var flat []float32
	for _, s := range g.Steps {
		flat = append(flat, s...)
	}
	n := len(g.Characters)
	r := newLineReader(TextLine{Space: true}, g.Characters[:n-1])
	steps := tensor{fp32, []int64{1, int64(len(g.Steps)), int64(n + 1)}, flat}
	if got := answerOf[text](t, r.answer, steps); got.Text != g.Text || !near(got.Score, g.TextScore, 1e-6) {
		t.Errorf("got %+v, want %q %v", got, g.Text, g.TextScore)
	}
}

func TestLineReader(t *testing.T) {
	hot := func(classes int, best ...int) tensor {
		d := make([]float32, classes*len(best))
		for i, b := range best {
			d[i*classes+b] = 1
		}
		return tensor{fp32, []int64{1, int64(len(best)), int64(classes)}, d}
	}
	tests := []struct {
		name string
		line TextLine
		in   tensor
		want string
	}{
		{"nothing", TextLine{}, hot(3), ""},
		{"blanks", TextLine{}, hot(3, 0, 0), ""},
		{"repeats", TextLine{}, hot(3, 1, 1, 0, 1, 2, 2), "aab"},
		{"blank at the end", TextLine{Blank: "last"}, hot(3, 2, 0, 0, 2, 0, 1), "aab"},
		{"spaces", TextLine{Space: true}, hot(4, 3, 1, 3, 2, 3), "a b"},
		{"space before the blank", TextLine{Space: true, Blank: "last"}, hot(4, 0, 2, 3, 1), "a b"},
	}
	for _, tt := range tests {
		if got := answerOf[text](t, newLineReader(tt.line, []string{"a", "b"}).answer, tt.in); got.Text != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got.Text, tt.want)
		}
	}
	in := hot(3, 1)
	in.data = []float32{float32(math.NaN()), 0, 0}
	if _, err := newLineReader(TextLine{}, []string{"a", "b"}).answer(in); err == nil {
		t.Error("got no error for an output that is not a number")
	}
	// With logits the score is what softmax would give.
	in.data = []float32{0, 1, 0}
	soft := answerOf[text](t, newLineReader(TextLine{Softmax: true}, []string{"a", "b"}).answer, in)
	if want := math.E / (math.E + 2); soft.Text != "a" || !near(soft.Score, want, 1e-7) {
		t.Errorf("got %+v, want a score of %v", soft, want)
	}
}

// answerOf passes an answer through JSON.
func answerOf[T any](t *testing.T, answer func(tensor) (any, error), in tensor) T {
	t.Helper()
	v, err := answer(in)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestModelsAgainstPython compares the two shipped actions with Pillow, numpy and ONNX
// Runtime in Python, tensors included.
func TestModelsAgainstPython(t *testing.T) {
	var want map[string]struct {
		Width      int
		TensorSum  float64      `json:"tensor_sum"`
		TensorHead [3][]float32 `json:"tensor_head"`
		Text       string
		Score      float64
		AngleSum   float64 `json:"angle_sum"`
		Angle      []float64
	}
	golden(t, "models.json", &want)
	ocr, _ := start(t, setup(t, shipped(t, "ocr-line"), nil))
	angle, _ := start(t, setup(t, shipped(t, "text-angle"), nil))
	for name, w := range want {
		data, err := os.ReadFile("testdata/decode/" + name)
		if err != nil {
			t.Fatal(err)
		}
		in, err := ocr.steps[0].image.decode(data)
		if err != nil {
			t.Fatal(err)
		}
		d := in.floats()
		if width := int(in.shape[3]); width != w.Width || sum(d) != w.TensorSum {
			t.Errorf("%s: got a tensor of width %d and sum %v, want %d and %v", name, width, sum(d), w.Width, w.TensorSum)
		}
		for c, head := range w.TensorHead {
			for i, v := range head {
				if got := d[(c*48+24)*w.Width+i]; got != v {
					t.Errorf("%s: channel %d, column %d: got %v, want %v", name, c, i, got, v)
				}
			}
		}
		got := predict[text](t, ocr, imageRequest(data))
		if got.Text != w.Text || !near(got.Score, w.Score, 1e-4) {
			t.Errorf("%s: got %+v, want %q %v", name, got, w.Text, w.Score)
		}
		in, err = angle.steps[0].image.decode(data)
		if err != nil || sum(in.floats()) != w.AngleSum {
			t.Errorf("%s: got a sum of %v and %v, want %v", name, sum(in.floats()), err, w.AngleSum)
		}
		turned := predict[struct{ Labels []label }](t, angle, imageRequest(data))
		for _, l := range turned.Labels {
			i := map[string]int{"0": 0, "180": 1}[l.Label]
			if !near(l.Score, w.Angle[i], 1e-4) {
				t.Errorf("%s: got %v, want %v", name, l, w.Angle[i])
			}
		}
	}
}

// sum adds in float64, which is exact enough for the order not to matter here.
func sum(d []float32) float64 {
	s := 0.0
	for _, v := range d {
		s += float64(v)
	}
	return s
}

func TestImageStep(t *testing.T) {
	// Two pixels wide, one high: (10, 20, 30) and (40, 50, 60).
	p := picture.Picture{Width: 2, Height: 1, Channels: 3, Pix: []byte{10, 20, 30, 40, 50, 60}}
	tests := []struct {
		name  string
		image Image
		kind  kind
		shape []int64
		data  any
	}{
		{"plain", Image{}, fp32, []int64{1, 3, 1, 2}, []float32{10, 40, 20, 50, 30, 60}},
		{"bytes", Image{}, uint8s, []int64{1, 3, 1, 2}, []uint8{10, 40, 20, 50, 30, 60}},
		{"halves", Image{}, fp16, []int64{1, 3, 1, 2}, mapped([]float32{10, 40, 20, 50, 30, 60}, floatToHalf)},
		{"nhwc", Image{Layout: "nhwc"}, fp32, []int64{1, 1, 2, 3}, []float32{10, 20, 30, 40, 50, 60}},
		{"bgr", Image{Layout: "nhwc", Color: "bgr"}, fp32, []int64{1, 1, 2, 3}, []float32{30, 20, 10, 60, 50, 40}},
		{"gray", Image{Color: "gray"}, fp32, []int64{1, 1, 1, 2}, []float32{18, 48}},
		{"normalised", Image{Layout: "nhwc", Scale: 0.5, Mean: []float64{1, 2, 3}, Std: []float64{2}}, fp32, []int64{1, 1, 2, 3}, []float32{2, 4, 6, 9.5, 11.5, 13.5}},
		{"padded with 0", Image{Mean: []float64{1}, Resize: Resize{Mode: "height", Height: 1, MinWidth: 3}}, fp32, []int64{1, 3, 1, 3}, []float32{9, 39, 0, 19, 49, 0, 29, 59, 0}},
		{"padded with a colour", Image{Mean: []float64{1}, Resize: Resize{Mode: "fit", Width: 2, Height: 3, Pad: []float64{7, 8, 9}}}, fp32, []int64{1, 3, 3, 2}, []float32{6, 6, 9, 39, 6, 6, 7, 7, 19, 49, 7, 7, 8, 8, 29, 59, 8, 8}},
		{"squeezed", Image{Color: "gray", Resize: Resize{Mode: "height", Height: 2, MaxWidth: 1, Wider: "squeeze"}}, fp32, []int64{1, 1, 2, 1}, []float32{33, 33}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.image.Argument = "image"
			if err := tt.image.validate(); err != nil {
				t.Fatal(err)
			}
			s, err := newImageStep(tt.image, port{kind: tt.kind})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.tensor(p)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, tensor{tt.kind, tt.shape, tt.data}, got)
		})
	}
}
