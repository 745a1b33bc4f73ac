package picture_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

func TestDecodeRefuses(t *testing.T) {
	golden := func(name string) []byte { return read(t, "../testdata/decode/"+name) }
	cut := func(name string) []byte { d := golden(name); return d[:len(d)/2] }
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "an empty file (0 bytes); send PNG, JPEG, WebP or TIFF"},
		{"text", []byte("this is a text that was named image.png"), `text, beginning with "this is a text that was "…`},
		{"gif", []byte("GIF89a\x01\x00\x01\x00"), "a GIF file"},
		{"pdf", []byte("%PDF-1.7"), "a PDF file"},
		{"avif", []byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00"), "an AVIF or HEIC file"},
		{"noise", []byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, "something unknown of 9 bytes, beginning with 0001020304050607"},
		{"cut png", cut("rgb.png"), "the PNG picture ("},
		{"cut jpeg", cut("420-61x47.jpg"), "damaged, cut short"},
		{"cut webp", cut("lossy-61x47.webp"), "damaged, cut short"},
		{"cut lossless webp", cut("lossless.webp"), "damaged, cut short"},
		{"cut tiff", cut("raw.tif"), "damaged, cut short"},
		{"png signature", golden("rgb.png")[:8], "damaged, cut short"},
		{"riff header", golden("lossless.webp")[:12], "it holds no picture"},
		{"huge png", hugePNG(30000, 30000), "the PNG picture has 30000×30000 pixels, the limit is 89478485 pixels; send a smaller one"},
		{"huge jpeg", hugeJPEG(30000, 30000), "the JPEG picture has 30000×30000 pixels"},
		{"huge tiff", hugeTIFF(30000, 30000), "the TIFF picture has 30000×30000 pixels"},
		{"huge lossy webp", hugeWebP(), "the WebP picture has 16383×16383 pixels"},
		{"huge canvas", hugeCanvas(golden("animated.webp")), "the WebP picture has 16777216×16777216 pixels"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := picture.Decode(tt.data, picture.Limits{})
			runtime.ReadMemStats(&after)
			if e, ok := errors.AsType[*actions.Error](err); !ok || e.Code != actions.Invalid || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("got %v, want an invalid request that says %q", err, tt.want)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<20 {
				t.Errorf("got %d bytes allocated, want less than 1 MiB", spent)
			}
		})
	}
}

func TestDecodeLimit(t *testing.T) {
	data := read(t, "../testdata/decode/rgb.png") // 61×47
	if _, err := picture.Decode(data, picture.Limits{Pixels: 61 * 47}); err != nil {
		t.Errorf("got %v, want a picture of exactly the limit to be read", err)
	}
	if _, err := picture.Decode(data, picture.Limits{Pixels: 61*47 - 1}); actions.CodeOf(err) != actions.Invalid {
		t.Errorf("got %v, want a picture of one pixel too many to be refused", err)
	}
}

func hugePNG(width, height uint32) []byte {
	b := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	head := append([]byte("IHDR"), 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0)
	binary.BigEndian.PutUint32(head[4:], width)
	binary.BigEndian.PutUint32(head[8:], height)
	return checksummed(append(append(b, head...), 0, 0, 0, 0))
}

// checksummed corrects the checksum of a PNG's header.
func checksummed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

func hugeJPEG(width, height uint16) []byte {
	b := []byte{0xff, 0xd8, 0xff, 0xc0, 0, 17, 8}
	b = binary.BigEndian.AppendUint16(b, height)
	b = binary.BigEndian.AppendUint16(b, width)
	return append(b, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0, 0xff, 0xda, 0, 2)
}

func hugeTIFF(width, height uint32) []byte {
	b := []byte("II*\x00\x08\x00\x00\x00\x04\x00")
	for _, e := range [][2]uint32{{256, width}, {257, height}, {258, 8}, {262, 1}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = append(b, 4, 0, 1, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, e[1])
	}
	return append(b, 0, 0, 0, 0)
}

// hugeWebP says in the container that it is small and in the frame that it is not.
func hugeWebP() []byte {
	b := []byte("RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00VP8 \x0a\x00\x00\x00")
	return append(b, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f)
}

func hugeCanvas(animated []byte) []byte {
	b := bytes.Clone(animated)
	copy(b[24:], "\xff\xff\xff\xff\xff\xff")
	return b
}

func FuzzDecode(f *testing.F) {
	paths, err := filepath.Glob("../testdata/decode/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		f.Add(read(f, path))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		p, err := picture.Decode(data, picture.Limits{Pixels: 1 << 14})
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("got an answer after %v for %d bytes", d, len(data))
		}
		if err != nil {
			if actions.CodeOf(err) != actions.Invalid {
				t.Errorf("got %v, want every error to be the sender's", err)
			}
			return
		}
		if len(p.Pix) != p.Width*p.Height*3 || p.Width*p.Height > 1<<14 {
			t.Errorf("got %d bytes for %d×%d", len(p.Pix), p.Width, p.Height)
		}
	})
}
