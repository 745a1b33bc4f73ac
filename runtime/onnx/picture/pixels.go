package picture

import (
	"image"
	"image/color"
)

// fromImage drops transparency and the lower byte of 16-bit samples. It takes the
// colours as they are stored, not multiplied by alpha, as Pillow's convert("RGB") does.
// The picture may take over the memory of m.
func fromImage(m image.Image) Picture {
	b := m.Bounds()
	switch m := m.(type) {
	case *image.NRGBA:
		return narrowed(b, m.Pix, m.Stride, 4, func(s, v []byte) { s[0], s[1], s[2] = v[0], v[1], v[2] })
	case *image.RGBA:
		return narrowed(b, m.Pix, m.Stride, 4, divide)
	case *image.NRGBA64:
		return narrowed(b, m.Pix, m.Stride, 8, func(s, v []byte) { s[0], s[1], s[2] = v[0], v[2], v[4] })
	case *image.RGBA64:
		return narrowed(b, m.Pix, m.Stride, 8, func(s, v []byte) { divide(s, []byte{v[0], v[2], v[4], v[6]}) })
	case *image.CMYK:
		return narrowed(b, m.Pix, m.Stride, 4, inks)
	}
	p := New(b.Dx(), b.Dy(), 3)
	switch m := m.(type) {
	case *image.Gray:
		p.each(func(x, y int, s []byte) {
			v := m.Pix[m.PixOffset(b.Min.X+x, b.Min.Y+y)]
			s[0], s[1], s[2] = v, v, v
		})
	case *image.Gray16:
		p.each(func(x, y int, s []byte) {
			v := m.Pix[m.PixOffset(b.Min.X+x, b.Min.Y+y)]
			s[0], s[1], s[2] = v, v, v
		})
	case *image.Paletted:
		colors := palette(m.Palette)
		p.each(func(x, y int, s []byte) { copy(s, colors[m.Pix[m.PixOffset(b.Min.X+x, b.Min.Y+y)]][:]) })
	default:
		p.each(func(x, y int, s []byte) { c := opaque(m.At(b.Min.X+x, b.Min.Y+y)); copy(s, c[:]) })
	}
	return p
}

// narrowed writes the three samples of each pixel over the n bytes that the pixels have.
// No pixel is written over before it is read, because each moves towards the beginning
// or stays; f must not read behind what it has written.
func narrowed(b image.Rectangle, pix []byte, stride, n int, f func(s, v []byte)) Picture {
	p := Picture{b.Dx(), b.Dy(), 3, pix[: b.Dx()*b.Dy()*3 : b.Dx()*b.Dy()*3]}
	for y := range p.Height {
		src, dst := pix[y*stride:][:p.Width*n], p.Row(y)
		for x := range p.Width {
			f(dst[x*3:x*3+3], src[x*n:x*n+n])
		}
	}
	return p
}

// each calls f for the samples of every pixel.
func (p Picture) each(f func(x, y int, s []byte)) {
	for y := range p.Height {
		row := p.Row(y)
		for x := range p.Width {
			f(x, y, row[x*3:x*3+3])
		}
	}
}

// divide undoes the multiplication by alpha.
func divide(s, v []byte) {
	a := int(v[3])
	if a == 0 || a == 255 {
		copy(s, v[:3])
		return
	}
	for i := range s {
		s[i] = byte(min(255*int(v[i])/a, 255))
	}
}

// inks converts CMYK, where 255 is full ink, to RGB.
func inks(s, v []byte) {
	white := 255 - int(v[3])
	for i := range s {
		t := int(v[i])*white + 128
		s[i] = byte(max(white-((t>>8)+t)>>8, 0))
	}
}

// palette returns 256 colours, so that no index is out of range.
func palette(p color.Palette) *[256][3]byte {
	var out [256][3]byte
	for i, c := range p[:min(len(p), len(out))] {
		out[i] = opaque(c)
	}
	return &out
}

func opaque(c color.Color) [3]byte {
	if c, ok := c.(color.NRGBA); ok {
		return [3]byte{c.R, c.G, c.B}
	}
	r, g, b, _ := c.RGBA()
	return [3]byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}
}
