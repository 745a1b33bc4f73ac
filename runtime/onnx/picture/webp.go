package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"io"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
)

// A WebP file is a RIFF of chunks. The picture is the first VP8 (lossy) or VP8L
// (lossless) chunk; in an animation it lies in the first ANMF chunk, which says where on
// the canvas it belongs. Chunks of alpha are not needed, since transparency is dropped.

// frame is the first picture of a WebP file.
type frame struct {
	lossless            bool
	data                []byte
	width, height       int
	canvasW, canvasH    int
	offsetX, offsetY    int
	canvasKnown, inside bool
}

// chunks calls f for each chunk until f says stop. It ends early where the file does.
func chunks(data []byte, f func(id string, body []byte) (stop bool)) {
	for len(data) >= 8 {
		id, size := string(data[:4]), uint64(binary.LittleEndian.Uint32(data[4:]))
		data = data[8:]
		body := data[:min(size, uint64(len(data)))]
		if f(id, body) {
			return
		}
		data = data[min(size+size%2, uint64(len(data))):]
	}
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func firstFrame(data []byte) (frame, error) {
	var fr frame
	chunks(data[12:], func(id string, body []byte) bool {
		switch {
		case id == "VP8X" && len(body) >= 10:
			fr.canvasW, fr.canvasH = uint24(body[4:])+1, uint24(body[7:])+1
			fr.canvasKnown = true
		case id == "ANMF" && len(body) >= 16:
			fr.offsetX, fr.offsetY, fr.inside = 2*uint24(body), 2*uint24(body[3:]), true
			chunks(body[16:], fr.take)
			return true
		}
		return fr.take(id, body)
	})
	if fr.data == nil {
		return fr, errors.New("it holds no picture")
	}
	if err := fr.measure(); err != nil {
		return fr, err
	}
	if !fr.inside {
		fr.canvasW, fr.canvasH = fr.width, fr.height
	} else if !fr.canvasKnown || fr.offsetX+fr.width > fr.canvasW || fr.offsetY+fr.height > fr.canvasH {
		return fr, errors.New("its first frame lies outside of the canvas")
	}
	return fr, nil
}

// take keeps the chunk that holds the pixels.
func (fr *frame) take(id string, body []byte) bool {
	if id == "VP8 " || id == "VP8L" {
		fr.lossless, fr.data = id == "VP8L", body
		return true
	}
	return false
}

func (fr *frame) measure() error {
	if fr.lossless {
		c, err := vp8l.DecodeConfig(bytes.NewReader(fr.data))
		fr.width, fr.height = c.Width, c.Height
		return err
	}
	_, h, err := fr.lossy()
	fr.width, fr.height = h.Width, h.Height
	return err
}

func (fr *frame) lossy() (*vp8.Decoder, vp8.FrameHeader, error) {
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(fr.data), len(fr.data))
	h, err := d.DecodeFrameHeader()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return d, h, err
}

// sizeWebP returns the greater of the frame and the canvas in each direction, because
// both take memory.
func sizeWebP(data []byte) (size, error) {
	fr, err := firstFrame(data)
	s := size{width: max(fr.width, fr.canvasW), height: max(fr.height, fr.canvasH)}
	s.bytes = fr.bytes(int64(len(data)))
	if fr.inside {
		s.bytes += 3 * int64(fr.canvasW) * int64(fr.canvasH)
	}
	return s, err
}

// bytes is what decoding takes of a file of that length.
func (fr *frame) bytes(length int64) int64 {
	if !fr.lossless {
		// Three planes, of which two have a quarter of the pixels; what filters the
		// blocks, some bytes for each 256 pixels; the picture; and parts of the file.
		padded := int64(fr.width+15) / 16 * (int64(fr.height+15) / 16) * 256
		return padded*8/5 + 3*int64(fr.width)*int64(fr.height) + length
	}
	// The pixels and, when they are a palette's, what they stand for; maps of tiles,
	// three of which are 4×4 pixels at the least; and trees, which are 2600 at the most
	// and have 50 kB. The shortest tree is half a kilobyte, of some bits.
	pixels := int64(fr.width) * int64(fr.height)
	return 9*pixels + min(8<<20+300*length, 2600*50<<10)
}

func decodeWebP(data []byte) (Picture, error) {
	fr, err := firstFrame(data)
	if err != nil {
		return Picture{}, err
	}
	p, err := fr.decode()
	if err != nil || !fr.inside {
		return p, err
	}
	canvas := New(fr.canvasW, fr.canvasH, 3)
	for y := range p.Height {
		copy(canvas.Row(fr.offsetY + y)[fr.offsetX*3:], p.Row(y))
	}
	return canvas, nil
}

func (fr *frame) decode() (Picture, error) {
	if fr.lossless {
		m, err := vp8l.Decode(bytes.NewReader(fr.data))
		if err != nil {
			return Picture{}, err
		}
		return fromImage(m), nil
	}
	d, h, err := fr.lossy()
	if err != nil {
		return Picture{}, err
	}
	m, err := d.DecodeFrame()
	if err != nil {
		return Picture{}, err
	}
	return fromVP8(m, h.Width, h.Height), nil
}

// fromVP8 converts the planes of a lossy WebP as libwebp does. VP8 is video: luma lies
// between 16 and 235. Chroma is interpolated between the four samples around a pixel,
// with 9, 3, 3 and 1 sixteenths.
func fromVP8(m *image.YCbCr, width, height int) Picture {
	p := New(width, height, 3)
	cw, ch := (width+1)/2, (height+1)/2
	u, v := make([]int32, width), make([]int32, width)
	for y := range height {
		// The nearest row of chroma and the next nearest, which is the one above for
		// the upper of two rows.
		near := y / 2
		far := min(max(near-1+y%2*2, 0), ch-1)
		spread(u, m.Cb[near*m.CStride:][:cw], m.Cb[far*m.CStride:][:cw])
		spread(v, m.Cr[near*m.CStride:][:cw], m.Cr[far*m.CStride:][:cw])
		luma := m.Y[y*m.YStride:][:width]
		dst := p.Row(y)
		for x, l := range luma {
			studio(dst[x*3:x*3+3], int32(l), u[x], v[x])
		}
	}
	return p
}

// spread writes one row of interpolated chroma. The two roundings are libwebp's.
func spread(dst []int32, near, far []byte) {
	last := len(near) - 1
	for x := range dst {
		i := x / 2
		j := i - 1 + x%2*2
		if j < 0 || j > last {
			dst[x] = (3*int32(near[i]) + int32(far[i]) + 2) >> 2
			continue
		}
		a, b, c, d := int32(near[i]), int32(near[j]), int32(far[i]), int32(far[j])
		dst[x] = ((a+3*b+3*c+d+8)>>3 + a) >> 1
	}
}

// studio converts one pixel of video levels in 14 bits of fraction.
func studio(s []byte, y, u, v int32) {
	l := y * 19077 >> 8
	s[0] = saturate((l + v*26149>>8 - 14234) >> 6)
	s[1] = saturate((l - u*6419>>8 - v*13320>>8 + 8708) >> 6)
	s[2] = saturate((l + u*33050>>8 - 17685) >> 6)
}
