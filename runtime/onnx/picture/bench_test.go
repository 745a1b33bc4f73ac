package picture_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

// photo is a picture of two million pixels.
func photo() *image.YCbCr {
	m := image.NewYCbCr(image.Rect(0, 0, 1600, 1200), image.YCbCrSubsampleRatio420)
	for i := range m.Y {
		m.Y[i] = byte(i * i >> 7)
	}
	for i := range m.Cb {
		m.Cb[i], m.Cr[i] = byte(i>>3), byte(i>>4)
	}
	return m
}

func benchmarkDecode(b *testing.B, data []byte) {
	b.Helper()
	for b.Loop() {
		if _, err := picture.Decode(data, picture.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeJPEG(b *testing.B) {
	benchmarkDecode(b, encodeJPEG(b, photo()))
}

func encodeJPEG(tb testing.TB, m image.Image) []byte {
	tb.Helper()
	var data bytes.Buffer
	if err := jpeg.Encode(&data, m, nil); err != nil {
		tb.Fatal(err)
	}
	return data.Bytes()
}

func BenchmarkDecodePNG(b *testing.B) {
	var data bytes.Buffer
	if err := png.Encode(&data, photo()); err != nil {
		b.Fatal(err)
	}
	benchmarkDecode(b, data.Bytes())
}

func BenchmarkResize(b *testing.B) {
	p := picture.New(1600, 1200, 3)
	for b.Loop() {
		p.Resize(224, 224, p.Whole(), picture.Bilinear)
	}
}
