// Package picture turns the bytes of a picture file into pixels, and pixels into
// pixels of another size, with the arithmetic of the Python Imaging Library, so that a
// model sees the numbers that it was trained with.
//
// [Decode] reads PNG, JPEG, WebP and TIFF, by what the bytes are and not by what they
// are called, and turns the picture upright as its EXIF orientation says. PNG, TIFF and
// WebP, the lossy kind too, come out as Pillow's convert("RGB") gives them. A sample of a
// JPEG may differ by 4 of 255, and by a tenth of 1 on average, because two decoders round
// their cosine transforms differently.
//
// [Picture.Resize] is Pillow's resize of 8-bit pictures, bit for bit: supports that grow
// when a picture shrinks, coefficients of 22 bits, a horizontal pass and then a vertical
// one, and 8 bits between the two.
package picture

// A Picture is rows of 8-bit samples, the topmost first, without gaps: three channels
// are red, green and blue, one is gray.
type Picture struct {
	Width, Height int
	Channels      int
	Pix           []byte
}

// New returns a black picture.
func New(width, height, channels int) Picture {
	return Picture{width, height, channels, make([]byte, width*height*channels)}
}

// Row returns the samples of row y.
func (p Picture) Row(y int) []byte {
	stride := p.Width * p.Channels
	return p.Pix[y*stride : (y+1)*stride : (y+1)*stride]
}

// Gray returns the luma of a picture (ITU-R 601-2, as Pillow's convert("L") rounds it).
// A gray picture is returned as it is.
func (p Picture) Gray() Picture {
	if p.Channels == 1 {
		return p
	}
	g := New(p.Width, p.Height, 1)
	for i := range g.Pix {
		s := p.Pix[i*3 : i*3+3 : i*3+3]
		g.Pix[i] = byte((uint32(s[0])*19595 + uint32(s[1])*38470 + uint32(s[2])*7471 + 1<<15) >> 16)
	}
	return g
}

// Crop returns a copy of the part of p that begins at (x, y), which must lie inside it.
func (p Picture) Crop(x, y, width, height int) Picture {
	if x == 0 && y == 0 && width == p.Width && height == p.Height {
		return p
	}
	c := New(width, height, p.Channels)
	for i := range height {
		copy(c.Row(i), p.Row(y + i)[x*p.Channels:])
	}
	return c
}

// upright undoes an EXIF orientation, 1 to 8; any other number means 1.
func (p Picture) upright(orientation int) Picture {
	if orientation < 2 || orientation > 8 {
		return p
	}
	w, h := p.Width, p.Height
	// The stored picture is walked in its own order; start and the two steps say
	// where its samples belong in the upright one, counted in pixels.
	out := New(w, h, p.Channels)
	if orientation >= 5 {
		out = New(h, w, p.Channels)
	}
	var start, right, down int
	switch orientation {
	case 2: // mirrored
		start, right, down = w-1, -1, w
	case 3: // upside down
		start, right, down = w*h-1, -1, -w
	case 4: // mirrored and upside down
		start, right, down = w*(h-1), 1, -w
	case 5: // mirrored about the main diagonal
		start, right, down = 0, h, 1
	case 6: // to be turned clockwise
		start, right, down = h-1, h, -1
	case 7: // mirrored about the other diagonal
		start, right, down = w*h-1, -h, -1
	case 8: // to be turned counterclockwise
		start, right, down = h*(w-1), -h, 1
	}
	n := p.Channels
	for y := range h {
		at := start + y*down
		for row := p.Row(y); len(row) > 0; row = row[n:] {
			copy(out.Pix[at*n:at*n+n], row[:n])
			at += right
		}
	}
	return out
}
