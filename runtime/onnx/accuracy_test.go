package onnx

import (
	"image"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

type line struct {
	text    string
	picture *image.RGBA
}

// lines draws 72 lines of words, numbers and punctuation in all fonts and many sizes.
func lines() []line {
	words := strings.Fields(`invoice total model serverless Lisbon Portugal warm context 2018 gpu node train
		predict catalog open cloud service image label score batch event river forest plankton Date Sample
		48.5 7f3a 0.35 120 kg North Sea station, (draft) No. 17: ready? yes! a/b 99% #42 & more; e-mail
		Quick Brown Foxes jumped 3.14159 km/h it's x=7`)
	rng := rand.New(rand.NewPCG(1, 2))
	var out []line
	for _, size := range []float64{20, 24, 28, 32, 40, 48, 56, 64} {
		for _, f := range onnxtest.Fonts() {
			for range 3 {
				text := make([]string, 2+rng.IntN(4))
				for i := range text {
					text[i] = words[rng.IntN(len(words))]
				}
				s := strings.Join(text, " ")
				out = append(out, line{s, onnxtest.DrawLine(s, f, size)})
			}
		}
	}
	return out
}

func TestOCRLineAccuracy(t *testing.T) {
	p, info := start(t, setup(t, shipped(t, "ocr-line"), nil))
	t.Logf("%+v", info)
	wrong, all := 0, 0
	for _, l := range lines() {
		got := predict[struct {
			Text  string
			Score float64
		}](t, p, imageRequest(encode(t, l.picture)))
		d := distance([]rune(l.text), []rune(got.Text))
		wrong += d
		all += len([]rune(l.text))
		if d > 0 {
			t.Logf("got %q (%.2f), want %q", got.Text, got.Score, l.text)
		}
	}
	rate := float64(wrong) / float64(all)
	t.Logf("%d of %d characters wrong: %.2f %%", wrong, all, 100*rate)
	if rate > 0.02 {
		t.Errorf("got a character error rate of %.2f %%, want less than 2 %%", 100*rate)
	}
}

func TestTextAngleAccuracy(t *testing.T) {
	p, info := start(t, setup(t, shipped(t, "text-angle"), nil))
	t.Logf("%+v", info)
	right, all := 0, 0
	for _, l := range lines() {
		for want, m := range map[string]*image.RGBA{"0": l.picture, "180": onnxtest.Turn(l.picture)} {
			got := predict[struct{ Label string }](t, p, imageRequest(encode(t, m)))
			all++
			if got.Label == want {
				right++
			} else {
				t.Logf("got %s, want %s for %q", got.Label, want, l.text)
			}
		}
	}
	t.Logf("%d of %d right", right, all)
	if 100*right < 95*all {
		t.Errorf("got %d of %d right, want 95 %%", right, all)
	}
}

// distance counts the insertions, deletions and replacements between two texts.
func distance(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		previous := row[0]
		row[0] = i + 1
		for j, y := range b {
			cost := previous
			if x != y {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}
