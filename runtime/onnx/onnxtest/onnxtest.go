// Package onnxtest helps to test what serves ONNX models: it finds the library and the
// weights that tests need, draws lines of text, and writes tiny models.
package onnxtest

import (
	"image"
	"image/color"
	"image/draw"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Library returns the path of libonnxruntime. It fails the test when there is none.
func Library(tb testing.TB) string {
	tb.Helper()
	return existing(tb, "DEEPFN_TEST_ONNXRUNTIME", os.Getenv("DEEPFN_TEST_ONNXRUNTIME"))
}

// Model returns the path of a model file by its base name. It fails the test when there
// is none.
func Model(tb testing.TB, name string) string {
	tb.Helper()
	dir := os.Getenv("DEEPFN_TEST_MODELS")
	if dir == "" {
		return existing(tb, "DEEPFN_TEST_MODELS", "")
	}
	return existing(tb, "DEEPFN_TEST_MODELS", filepath.Join(dir, name))
}

func existing(tb testing.TB, variable, path string) string {
	tb.Helper()
	if path == "" {
		tb.Fatalf("%s is not set; run make test, which fetches what the tests need", variable)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%s: %v; run make test, which fetches what the tests need", variable, err)
	}
	return path
}

// A Font is one of the Go fonts.
type Font string

// The fonts.
const (
	Regular Font = "regular"
	Bold    Font = "bold"
	Mono    Font = "mono"
)

// Fonts lists every Font.
func Fonts() []Font { return []Font{Regular, Bold, Mono} }

// DrawLine draws a text in black on white, as one line of size pixels, with a margin of
// a quarter of that. It panics when the font cannot be used.
func DrawLine(text string, f Font, size float64) *image.RGBA {
	face, err := f.face(size)
	if err != nil {
		panic(err)
	}
	defer face.Close() //nolint:errcheck // it always succeeds
	margin := int(size / 4)
	m := face.Metrics()
	width := font.MeasureString(face, text).Ceil() + 2*margin
	height := (m.Ascent + m.Descent).Ceil() + 2*margin
	line := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(line, line.Bounds(), image.White, image.Point{}, draw.Src)
	d := font.Drawer{
		Dst: line, Src: image.NewUniform(color.Black), Face: face,
		Dot: fixed.Point26_6{X: fixed.I(margin), Y: fixed.I(margin) + m.Ascent},
	}
	d.DrawString(text)
	return line
}

func (f Font) face(size float64) (font.Face, error) {
	ttf := goregular.TTF
	switch f {
	case Bold:
		ttf = gobold.TTF
	case Mono:
		ttf = gomono.TTF
	case Regular:
	}
	parsed, err := opentype.Parse(ttf)
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(parsed, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
}

// Turn returns a picture that is turned by 180 degrees.
func Turn(m *image.RGBA) *image.RGBA {
	out := image.NewRGBA(m.Bounds())
	n := len(m.Pix)
	for i := 0; i < n; i += 4 {
		copy(out.Pix[n-4-i:n-i], m.Pix[i:i+4])
	}
	return out
}
