package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"strings"

	"golang.org/x/image/tiff"

	"github.com/deepfn/deepfn/actions"
)

// MaxPixels is the most pixels that Decode takes when it is not told otherwise. It is
// Pillow's limit: a picture of so many pixels, four bytes each, takes a third of 1 GiB.
const MaxPixels = 1 << 30 / 4 / 3

// Decode returns the picture in data, upright and in three channels. Transparency is
// dropped, samples of 16 bits keep their upper byte, and of an animation or a file of
// several pages the first picture is taken.
//
// A picture of more than maxPixels (zero means MaxPixels) is refused by its header. An
// error is an *actions.Error with the code Invalid, which says what the bytes are and
// what can be read.
func Decode(data []byte, maxPixels int) (Picture, error) {
	if maxPixels <= 0 {
		maxPixels = MaxPixels
	}
	f := sniff(data)
	if f.decode == nil {
		return Picture{}, actions.Errorf(actions.Invalid, "this is not a picture that can be read but %s; send %s", f.name, readable)
	}
	width, height, err := f.size(data)
	if err != nil {
		return Picture{}, damaged(f, len(data), err)
	}
	if width <= 0 || height <= 0 {
		return Picture{}, actions.Errorf(actions.Invalid, "the %s picture has no pixels (%d×%d)", f.name, width, height)
	}
	if width > maxPixels/height {
		return Picture{}, actions.Errorf(actions.Invalid, "the %s picture has %d×%d pixels, the limit is %d pixels; send a smaller one",
			f.name, width, height, maxPixels)
	}
	p, err := f.decode(data)
	if err != nil {
		return Picture{}, damaged(f, len(data), err)
	}
	return p.upright(f.orientation(data)), nil
}

const readable = "PNG, JPEG, WebP or TIFF"

func damaged(f format, size int, err error) error {
	return &actions.Error{
		Code: actions.Invalid,
		Msg:  fmt.Sprintf("the %s picture (%d bytes) is damaged, cut short or of a kind that cannot be read: %v; send %s", f.name, size, err, readable),
		Err:  err,
	}
}

// A format is a kind of file. One without decode cannot be read, and its name says in
// words what was found.
type format struct {
	name        string
	size        func([]byte) (width, height int, err error)
	decode      func([]byte) (Picture, error)
	orientation func([]byte) int
}

func sniff(data []byte) format {
	begins := func(magic string) bool { return bytes.HasPrefix(data, []byte(magic)) }
	switch {
	case begins("\x89PNG\r\n\x1a\n"):
		return format{"PNG", sizeBy(png.DecodeConfig), decodePNG, orientationPNG}
	case begins("\xff\xd8\xff"):
		return format{"JPEG", sizeBy(jpeg.DecodeConfig), decodeJPEG, orientationJPEG}
	case begins("II*\x00"), begins("MM\x00*"):
		return format{"TIFF", sizeBy(tiff.DecodeConfig), decodeTIFF, orientationTIFF}
	case begins("RIFF") && len(data) >= 12 && string(data[8:12]) == "WEBP":
		return format{"WebP", sizeWebP, decodeWebP, orientationWebP}
	case len(data) == 0:
		return format{name: "an empty file (0 bytes)"}
	case begins("II+\x00"), begins("MM\x00+"):
		return format{name: "a BigTIFF file"}
	case begins("GIF8"):
		return format{name: "a GIF file"}
	case begins("BM"):
		return format{name: "a BMP file"}
	case begins("%PDF"):
		return format{name: "a PDF file"}
	case len(data) >= 12 && string(data[4:8]) == "ftyp" && strings.Contains("avif avis heic heix mif1 msf1", string(data[8:12])):
		return format{name: "an AVIF or HEIC file"}
	case strings.HasPrefix(http.DetectContentType(data), "text/"):
		return format{name: "text, beginning with " + excerpt(data)}
	}
	return format{name: fmt.Sprintf("something unknown of %d bytes, beginning with %x", len(data), data[:min(len(data), 8)])}
}

// excerpt quotes the beginning of a text.
func excerpt(data []byte) string {
	const most = 24
	if len(data) <= most {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%q…", data[:most])
}

func sizeBy(config func(io.Reader) (image.Config, error)) func([]byte) (int, int, error) {
	return func(data []byte) (int, int, error) {
		c, err := config(bytes.NewReader(data))
		return c.Width, c.Height, err
	}
}

func decodePNG(data []byte) (Picture, error) {
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return Picture{}, err
	}
	return fromImage(m), nil
}

func decodeJPEG(data []byte) (Picture, error) {
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		return Picture{}, err
	}
	if m, ok := m.(*image.YCbCr); ok {
		return fromYCbCr(m), nil
	}
	return fromImage(m), nil
}

func decodeTIFF(data []byte) (Picture, error) {
	m, err := tiff.Decode(bytes.NewReader(data))
	if err != nil {
		return Picture{}, err
	}
	p := fromImage(m)
	// The decoder of fax compression takes a white run for white, but when black is
	// zero it is the other way around.
	const group3, group4, blackIsZero = 3, 4, 1
	fax := tag(data, tagCompression) == group3 || tag(data, tagCompression) == group4
	if fax && tag(data, tagPhotometric) == blackIsZero {
		for i, s := range p.Pix {
			p.Pix[i] = ^s
		}
	}
	return p, nil
}
