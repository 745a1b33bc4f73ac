package picture_test

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/runtime/onnx/picture"
)

// tolerance is how far a sample may be from Pillow's and how far all of them on average.
type tolerance struct {
	most int
	mean float64
}

// ofJPEG is what the two inverse cosine transforms may differ by, because they round
// differently. Every other format is exact.
func ofJPEG() tolerance { return tolerance{4, 0.1} }

func TestDecodeAgainstPillow(t *testing.T) {
	paths, err := filepath.Glob("../testdata/decode/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range paths {
		if _, err := os.Stat(path + ".png"); err != nil {
			continue
		}
		n++
		t.Run(filepath.Base(path), func(t *testing.T) {
			got, err := picture.Decode(read(t, path), picture.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			allowed := tolerance{}
			if strings.HasSuffix(path, ".jpg") {
				allowed = ofJPEG()
			}
			compare(t, got, readPNG(t, path+".png", 3), allowed)
		})
	}
	if n < 50 {
		t.Errorf("got %d golden pictures, want at least 50", n)
	}
}

func TestResizeAgainstPillow(t *testing.T) {
	rgb, gray := readPNG(t, "../testdata/resize/rgb.png", 3), readPNG(t, "../testdata/resize/gray.png", 1)
	paths, err := filepath.Glob("../testdata/resize/*-*.png")
	if err != nil || len(paths) < 70 {
		t.Fatalf("got %d golden pictures and %v, want at least 70", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".png")
		t.Run(name, func(t *testing.T) {
			var w, h int
			part := strings.Split(name, "-")
			if _, err := fmt.Sscanf(part[2], "%dx%d", &w, &h); err != nil {
				t.Fatal(err)
			}
			filter := picture.Filter(part[1])
			var got picture.Picture
			switch part[0] {
			case "stretch":
				got = rgb.Resize(w, h, rgb.Whole(), filter)
			case "gray":
				got = gray.Resize(w, h, gray.Whole(), filter)
			case "fill":
				got = rgb.Cover(w, h, filter)
			case "fit":
				got = pad(rgb.Contain(w, h, filter), w, h)
			}
			compare(t, got, readPNG(t, path, got.Channels), tolerance{})
		})
	}
}

// pad puts p into the middle of the colour that golden.py uses.
func pad(p picture.Picture, width, height int) picture.Picture {
	left, top := p.Margins(width, height)
	out := picture.New(width, height, 3)
	for i := range out.Pix {
		out.Pix[i] = []byte{114, 5, 250}[i%3]
	}
	for y := range p.Height {
		copy(out.Row(top + y)[left*3:], p.Row(y))
	}
	return out
}

func TestGrayAgainstPillow(t *testing.T) {
	rgb := readPNG(t, "../testdata/resize/rgb.png", 3)
	compare(t, rgb.Gray(), readPNG(t, "../testdata/resize/gray.png", 1), tolerance{})
}

func compare(t *testing.T, got, want picture.Picture, allowed tolerance) {
	t.Helper()
	if got.Width != want.Width || got.Height != want.Height || got.Channels != want.Channels {
		t.Fatalf("got %d×%d×%d, want %d×%d×%d", got.Width, got.Height, got.Channels, want.Width, want.Height, want.Channels)
	}
	most, sum, at := 0, 0, 0
	for i, w := range want.Pix {
		d := max(int(got.Pix[i])-int(w), int(w)-int(got.Pix[i]))
		sum += d
		if d > most {
			most, at = d, i
		}
	}
	mean := float64(sum) / float64(len(want.Pix))
	if most > allowed.most || mean > allowed.mean {
		t.Errorf("got a difference of %d (at pixel %d, channel %d: %d, want %d), mean %.3f; want at most %d, mean %.3f",
			most, at/want.Channels, at%want.Channels, got.Pix[at], want.Pix[at], mean, allowed.most, allowed.mean)
	} else if most > 0 {
		t.Logf("difference %d, mean %.4f", most, mean)
	}
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// readPNG reads a golden picture with the standard library alone.
func readPNG(t *testing.T, path string, channels int) picture.Picture {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return standard(m, channels)
}

func standard(m image.Image, channels int) picture.Picture {
	b := m.Bounds()
	p := picture.New(b.Dx(), b.Dy(), channels)
	i := 0
	for y := range b.Dy() {
		for x := range b.Dx() {
			r, g, bl, _ := m.At(x, y).RGBA()
			i += copy(p.Pix[i:], []byte{byte(r >> 8), byte(g >> 8), byte(bl >> 8)}[:channels])
		}
	}
	return p
}
