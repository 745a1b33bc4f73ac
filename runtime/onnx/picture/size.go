package picture

import (
	"bytes"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"

	"golang.org/x/image/tiff"
)

// A size is what the header of a file says: how large the picture is, and how many bytes
// of memory it takes at most to decode and convert it. All that grows with the picture
// counts, as though none of it were free before the end, because the memory of a process
// holds what the garbage collector has not found yet.
type size struct {
	width, height int
	bytes         int64
}

// pixels returns the bytes that so many for each pixel are.
func (s size) pixels(each int64) int64 {
	if s.width <= 0 || s.height <= 0 || int64(s.width) > math.MaxInt64/64/int64(s.height) {
		return 0 // there are more pixels than any limit
	}
	return int64(s.width) * int64(s.height) * each
}

// sizePNG knows how the decoder keeps pixels: colours in four samples, and gray so too
// when one shade is transparent, which is said behind the header. An interlaced picture
// is kept a second time. Palettes are converted to a new picture, the rest in its place.
func sizePNG(data []byte) (size, error) {
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return size{}, err
	}
	const depth, interlaced = 24, 28 // where they are
	s := size{width: c.Width, height: c.Height}
	each, converted := int64(4), int64(0)
	if _, ok := c.ColorModel.(color.Palette); ok {
		each, converted = 1, 3
	} else if data[depth] == 16 {
		each = 8
	}
	if data[interlaced] != 0 {
		each *= 2
	}
	s.bytes = s.pixels(each + converted)
	return s, nil
}

// sizeJPEG counts the samples of the planes, which are whole blocks, and their
// coefficients, of 32 bits each, when the picture comes in several scans.
func sizeJPEG(data []byte) (size, error) {
	c, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return size{}, err
	}
	s := size{width: c.Width, height: c.Height}
	planes, progressive := planesOf(data)
	each := int64(1)
	if progressive {
		each += 4
	}
	h, v := max(int64(planes[0]>>4), 1), max(int64(planes[0]&15), 1)
	units := (int64(s.width) + 8*h - 1) / (8 * h) * ((int64(s.height) + 8*v - 1) / (8 * v))
	for _, p := range planes {
		s.bytes += each * units * 64 * int64(p>>4) * int64(p&15)
	}
	// Three samples, or four, which are converted in their place.
	s.bytes += s.pixels(4)
	return s, nil
}

// planesOf returns the samples of each plane of a JPEG in one block, across in the upper
// half of the byte and down in the lower one. A header that is hidden means the worst.
func planesOf(data []byte) (planes []byte, progressive bool) {
	const baseline, inScans = 0xc0, 0xc2
	planes, progressive = []byte{0x11, 0x11, 0x11, 0x11}, true
	segments(data, func(marker byte, body []byte) bool {
		if marker < baseline || marker > inScans || len(body) < 6 {
			return false
		}
		progressive = marker == inScans
		n := int(body[5])
		if n == 1 { // whatever it says
			planes = planes[:1]
		} else if n > 1 && len(body) >= 6+3*n {
			planes = planes[:0]
			for i := range n {
				planes = append(planes, body[6+3*i+1])
			}
		}
		return true
	})
	return planes, progressive
}

// sizeTIFF counts the pixels, the picture that they are converted to if it takes another
// place, and the block that is decompressed at a time. A block may turn out to have 8
// bytes for each pixel, and three times as much passes while it grows.
func sizeTIFF(data []byte) (size, error) {
	c, err := tiff.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return size{}, err
	}
	s := size{width: c.Width, height: c.Height}
	each := int64(4) // also gray: one sample, and then three
	switch c.ColorModel {
	case color.Gray16Model:
		each = 5
	case color.RGBA64Model, color.NRGBA64Model:
		each = 8
	}
	s.bytes = s.pixels(each)
	const none, group3, group4 = 1, 3, 4
	switch compression, _ := number(data, tagCompression); compression {
	case none, 0: // a part of the file
		s.bytes += int64(len(data))
	case group3, group4: // a bit for each pixel
		s.bytes += blockOf(data, s).pixels(1)
	default:
		s.bytes += blockOf(data, s).pixels(3 * 8)
	}
	return s, nil
}

// blockOf returns the size of the tiles or strips of a TIFF file.
func blockOf(data []byte, s size) size {
	const rowsPerStrip, tileWidth, tileHeight = 0x0116, 0x0142, 0x0143
	if w, kind := number(data, tileWidth); kind != 0 && w != 0 {
		h, _ := number(data, tileHeight)
		// The decoder refuses greater ones.
		most := func(v, side int) int {
			if v < 0 || v > max(side+16, 1024) {
				return max(side+16, 1024)
			}
			return v
		}
		return size{width: most(w, s.width), height: most(h, s.height)}
	}
	if rows, _ := number(data, rowsPerStrip); rows > 0 && rows < s.height {
		return size{width: s.width, height: rows}
	}
	return s
}
