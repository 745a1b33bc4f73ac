package onnx

import (
	"bytes"
	"image"
	"image/png"
	"runtime/debug"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestMemoryIsGivenBack sends pictures that take 100 MB, a whole one and a
// damaged one.
func TestMemoryIsGivenBack(t *testing.T) {
	c := tiny(t, identity(1, 1, 3, 8, 8), `{"model": "model", "inputs": {"x": {"image": {
		"argument": "image", "max_pixels": 100000000, "resize": {"mode": "stretch", "width": 8, "height": 8}}}}}`)
	c.Arguments = []actions.Argument{{Name: "image", Type: actions.TypeFile}}
	p, _ := start(t, c)
	gray := func(width int) []byte {
		var b bytes.Buffer
		// The race detector makes compression take half a minute.
		e := png.Encoder{CompressionLevel: png.NoCompression}
		if err := e.Encode(&b, image.NewGray(image.Rect(0, 0, width, 5000))); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	large, damaged := gray(6000), gray(20000) // 4 bytes a pixel, and 1 before the damage is met
	damaged[len(damaged)-20] ^= 1
	debug.FreeOSMemory()
	before, spent := resident(t), allocated()
	if _, err := p.Call(t.Context(), imageRequest(large)); err != nil {
		t.Fatal(err)
	}
	whole := resident(t)
	if _, err := p.Call(t.Context(), imageRequest(damaged)); actions.CodeOf(err) != actions.Invalid {
		t.Fatalf("got %v, want the picture to be damaged", err)
	}
	if took := allocated() - spent; took < 200<<20 {
		t.Fatalf("got %d bytes spent, which proves nothing", took)
	}
	for name, after := range map[string]int{"whole": whole, "damaged": resident(t)} {
		if grown := after - before; grown > 48<<20 {
			t.Errorf("%s: got %d MiB more than before, want the memory to be given back", name, grown>>20)
		}
	}
}

// TestLimits counts what is made of the pixels behind the decoder.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		spec Image
		kind kind
		want int
	}{
		{Image{Resize: Resize{Mode: "stretch"}}, fp32, 0},
		{Image{Resize: Resize{Mode: "stretch"}, Color: "gray"}, fp32, 1},
		{Image{}, fp32, 12},
		{Image{Color: "gray"}, uint8s, 1 + 4 + 1},
		{Image{Resize: Resize{Mode: "none"}}, fp16, 12 + 6},
	} {
		tt.spec.MaxPixels, tt.spec.MaxBytes = 7, 8
		l := (&imageStep{Image: tt.spec, kind: tt.kind}).limits()
		if l.PerPixel != tt.want || l.Pixels != 7 || l.Bytes != 8 {
			t.Errorf("%+v: got %+v, want %d bytes a pixel", tt.spec, l, tt.want)
		}
	}
}
