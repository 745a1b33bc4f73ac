package picture_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

// spent returns how many bytes f allocates.
func spent(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// needed returns how many MiB a picture is said to take.
func needed(t *testing.T, data []byte) int {
	t.Helper()
	_, err := picture.Decode(data, picture.Limits{Bytes: 1})
	if actions.CodeOf(err) != actions.Invalid {
		t.Fatalf("got %v, want the picture to take too much memory", err)
	}
	_, rest, _ := strings.Cut(err.Error(), "to read it takes ")
	mib, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(mib)
	if err != nil {
		t.Fatalf("got %q, want a number of MiB", rest)
	}
	return n
}

// most returns how many bytes may be allocated when so many are announced: tables and
// buffers take the same for every picture.
func most(says int) int { return says + int(more*float64(says)) + 1<<20 }

// TestBytes decodes pictures of all kinds that take more than the decoder's tables do.
// None may take more than it is said to.
func TestBytes(t *testing.T) {
	const side = 1000
	r := image.Rect(0, 0, side, side)
	pictures := map[string][]byte{
		"jpeg 4:2:0": encodeJPEG(t, image.NewYCbCr(r, image.YCbCrSubsampleRatio420)),
		"jpeg gray":  encodeJPEG(t, image.NewGray(r)),
	}
	for name, m := range map[string]image.Image{
		"gray": image.NewGray(r), "gray of 16 bits": image.NewGray16(r), "colours": opaqueNRGBA(r),
		"transparent": image.NewNRGBA(r), "transparent of 16 bits": image.NewNRGBA64(r),
		"palette": image.NewPaletted(r, color.Palette{color.Black, color.White}),
	} {
		var p, ti bytes.Buffer
		if err := png.Encode(&p, m); err != nil {
			t.Fatal(err)
		}
		if err := tiff.Encode(&ti, m, &tiff.Options{Compression: tiff.Deflate}); err != nil {
			t.Fatal(err)
		}
		pictures["png "+name], pictures["tiff "+name] = p.Bytes(), ti.Bytes()
	}
	for name, data := range pictures {
		t.Run(name, func(t *testing.T) {
			says := needed(t, data) << 20
			took := spent(func() {
				if _, err := picture.Decode(data, picture.Limits{}); err != nil {
					t.Error(err)
				}
			})
			if took > most(says) {
				t.Errorf("got %d bytes allocated, %d announced", took, says)
			}
			if says > took+3*8*side*side+2<<20 {
				t.Errorf("got %d bytes announced, %d allocated", says, took)
			}
		})
	}
}

// TestBytesOfGoldenPictures does the same with files of other programs, where the tables
// count for more.
func TestBytesOfGoldenPictures(t *testing.T) {
	paths, err := filepath.Glob("../testdata/decode/*")
	if err != nil || len(paths) < 100 {
		t.Fatalf("got %d files and %v", len(paths), err)
	}
	for _, path := range paths {
		data := read(t, path)
		says := needed(t, data) << 20
		if took := spent(func() { _, _ = picture.Decode(data, picture.Limits{}) }); took > most(says) {
			t.Errorf("%s: got %d bytes allocated, %d announced", path, took, says)
		}
	}
}

// opaqueNRGBA is white, so that it is kept without transparency.
func opaqueNRGBA(r image.Rectangle) image.Image {
	m := image.NewNRGBA(r)
	for i := range m.Pix {
		m.Pix[i] = 255
	}
	return m
}

// TestBytesAreRefused names what a header announces.
func TestBytesAreRefused(t *testing.T) {
	deep := hugePNG(9459, 9459)
	deep[24], deep[25], deep[28] = 16, 6, 1 // four samples of 16 bits, interlaced
	progressive := hugeJPEG(9000, 9000)
	progressive[3] = 0xc2
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"interlaced", checksummed(deep), "the PNG picture has 9459×9459 pixels, to read it takes 1366 MiB of memory (16 bytes a pixel), the limit is 512 MiB; send a smaller one"},
		{"in scans", progressive, "the JPEG picture has 9000×9000 pixels, to read it takes 890 MiB of memory (11 bytes a pixel), the limit is 512 MiB"},
		{"long", hugePNG(20_000_000, 1), "the PNG picture has 20000000×1 pixels, the limit for its longer side is 65535"},
		{"tall", hugePNG(1, 65536), "the PNG picture has 1×65536 pixels, the limit for its longer side is 65535"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			took := spent(func() {
				if _, err := picture.Decode(tt.data, picture.Limits{}); actions.CodeOf(err) != actions.Invalid || !strings.HasPrefix(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			})
			if took > 1<<20 {
				t.Errorf("got %d bytes allocated, want less than 1 MiB", took)
			}
		})
	}
	turned := read(t, "../testdata/decode/turned-6.png")
	if a, b := exactly(t, turned, 0), exactly(t, turned, 5); b-a != 5 {
		t.Errorf("got %d and %d bytes a pixel, want the caller's 5 to count", a, b)
	}
	if a, b := exactly(t, read(t, "../testdata/decode/turned-1.png"), 0), exactly(t, turned, 0); b-a != 3 {
		t.Errorf("got %d and %d bytes a pixel, want a turn to take 3", a, b)
	}
}

// exactly returns the bytes a pixel that a picture is said to take.
func exactly(t *testing.T, data []byte, more int) int {
	t.Helper()
	_, err := picture.Decode(data, picture.Limits{Bytes: 1, PerPixel: more})
	_, rest, _ := strings.Cut(err.Error(), "(")
	each, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(each)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestResizeTakesLittle resizes the longest pictures that there are.
func TestResizeTakesLittle(t *testing.T) {
	for _, size := range [][2]int{{1, picture.MaxSide}, {picture.MaxSide, 1}, {64, picture.MaxSide}} {
		for _, f := range []picture.Filter{picture.Nearest, picture.Bilinear, picture.Lanczos} {
			p := picture.New(size[0], size[1], 3)
			for _, side := range []int{1, 224} {
				took := spent(func() { p.Resize(side, side, p.Whole(), f) })
				// The result, the coefficients and the rows that one is made of.
				if most := 4*side*side + 6*12*picture.MaxSide + 3*side*(6*picture.MaxSide/side+8) + 1<<20; took > most {
					t.Errorf("%v to %d with %s: got %d bytes allocated, want at most %d", size, side, f, took, most)
				}
			}
		}
	}
}
