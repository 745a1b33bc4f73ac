package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"strings"

	"golang.org/x/image/tiff"

	"github.com/deepfn/deepfn/actions"
)

// MaxPixels, MaxSide and MaxBytes are the limits when there are no others. MaxPixels is
// Pillow's. MaxSide is JPEG's; a resize takes memory in proportion to the longer side.
const (
	MaxPixels = 1 << 30 / 4 / 3
	MaxSide   = 65535
	MaxBytes  = 512 << 20
)

// Limits bound what Decode takes. The zero value means the defaults.
type Limits struct {
	// Pixels is the most pixels that a picture may have. Zero means MaxPixels.
	Pixels int
	// Bytes is the most memory that a picture may take. Zero means MaxBytes.
	Bytes int64
	// PerPixel is how many bytes the caller is going to take for each pixel; they count
	// too.
	PerPixel int
}

// Decode returns the picture in data, upright and in three channels. Transparency is
// dropped, samples of 16 bits keep their upper byte, and of an animation or a file of
// several pages the first picture is taken.
//
// A picture that exceeds the limits, or has a side of more than MaxSide, is refused by
// its header. An error is an *actions.Error with the code Invalid, which says what the
// bytes are and what can be read.
func Decode(data []byte, l Limits) (Picture, error) {
	f := sniff(data)
	if f.decode == nil {
		return Picture{}, actions.Errorf(actions.Invalid, "this is not a picture that can be read but %s; send %s", f.name, readable)
	}
	s, err := f.size(data)
	if err != nil {
		return Picture{}, damaged(f, len(data), err)
	}
	orientation := f.orientation(data)
	if orientation > 1 {
		s.bytes += s.pixels(3)
	}
	s.bytes += s.pixels(int64(l.PerPixel))
	if why := l.refuse(s); why != "" {
		return Picture{}, actions.Errorf(actions.Invalid, "the %s picture has %d×%d pixels, %s", f.name, s.width, s.height, why)
	}
	p, err := f.decode(data)
	if err != nil {
		return Picture{}, damaged(f, len(data), err)
	}
	return p.upright(orientation), nil
}

// refuse says in words which limit a picture exceeds; empty when it exceeds none.
func (l Limits) refuse(s size) string {
	if l.Pixels <= 0 {
		l.Pixels = MaxPixels
	}
	if l.Bytes <= 0 {
		l.Bytes = MaxBytes
	}
	switch {
	case s.width <= 0 || s.height <= 0:
		return "which is none at all"
	case s.width > l.Pixels/s.height:
		return fmt.Sprintf("the limit is %d pixels; send a smaller one", l.Pixels)
	case max(s.width, s.height) > MaxSide:
		return fmt.Sprintf("the limit for its longer side is %d; send a smaller one", MaxSide)
	case s.bytes > l.Bytes:
		return fmt.Sprintf("to read it takes %d MiB of memory (%d bytes a pixel), the limit is %d MiB; send a smaller one",
			(s.bytes+1<<20-1)>>20, s.bytes/s.pixels(1), l.Bytes>>20)
	}
	return ""
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
	size        func([]byte) (size, error)
	decode      func([]byte) (Picture, error)
	orientation func([]byte) int
}

func sniff(data []byte) format {
	begins := func(magic string) bool { return bytes.HasPrefix(data, []byte(magic)) }
	switch {
	case begins("\x89PNG\r\n\x1a\n"):
		return format{"PNG", sizePNG, decodePNG, orientationPNG}
	case begins("\xff\xd8\xff"):
		return format{"JPEG", sizeJPEG, decodeJPEG, orientationJPEG}
	case begins("II*\x00"), begins("MM\x00*"):
		return format{"TIFF", sizeTIFF, decodeTIFF, orientationTIFF}
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
	compression, _ := number(data, tagCompression)
	photometric, _ := number(data, tagPhotometric)
	if (compression == group3 || compression == group4) && photometric == blackIsZero {
		for i, s := range p.Pix {
			p.Pix[i] = ^s
		}
	}
	return p, nil
}
