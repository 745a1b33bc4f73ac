package onnx

import (
	"bytes"
	"flag"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

var update = flag.Bool("update", false, "draw the pictures of the examples again")

// examples are the pictures in the folders of the examples and what is said about them.
func examples() map[string]struct {
	picture *image.RGBA
	want    string
} {
	line := onnxtest.DrawLine("Serverless models stay warm 2026", onnxtest.Regular, 40)
	return map[string]struct {
		picture *image.RGBA
		want    string
	}{
		"ocr-line/line.png":     {line, "Serverless models stay warm 2026"},
		"text-angle/turned.png": {onnxtest.Turn(line), "180"},
	}
}

func TestExamples(t *testing.T) {
	for name, e := range examples() {
		t.Run(name, func(t *testing.T) {
			path := "../../examples/" + name
			if *update {
				if err := os.WriteFile(path, encode(t, e.picture), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m, err := png.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := m.(*image.RGBA); !ok || !bytes.Equal(got.Pix, e.picture.Pix) {
				t.Error("the picture is not what is drawn; run go test -update")
			}
			p, _ := start(t, setup(t, shipped(t, filepath.Dir(name)), nil))
			got := predict[struct{ Text, Label string }](t, p, imageRequest(data))
			if got.Text+got.Label != e.want {
				t.Errorf("got %+v, want %q", got, e.want)
			}
		})
	}
}
