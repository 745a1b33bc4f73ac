package onnx

import (
	"encoding/json"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

// benchmark calls one of the shipped actions with a drawn line.
func benchmark(b *testing.B, action string) {
	b.Helper()
	p, _ := start(b, setup(b, shipped(b, action), nil))
	req := imageRequest(encode(b, onnxtest.DrawLine("Serverless models stay warm 2026", onnxtest.Regular, 32)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Call(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOCRLine(b *testing.B)   { benchmark(b, "ocr-line") }
func BenchmarkTextAngle(b *testing.B) { benchmark(b, "text-angle") }

// BenchmarkRead is the part of ocr-line before the model: decode, resize, normalise.
func BenchmarkRead(b *testing.B) {
	p, _ := start(b, setup(b, shipped(b, "ocr-line"), nil))
	req := imageRequest(encode(b, onnxtest.DrawLine("Serverless models stay warm 2026", onnxtest.Regular, 32)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.read(req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTensorJSON(b *testing.B) {
	d := make([]float32, 256*1024) // 1 MiB
	for i := range d {
		d[i] = float32(i) / 7
	}
	data, err := json.Marshal(d)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := parseTensor(data, fp32); err != nil {
			b.Fatal(err)
		}
	}
}
