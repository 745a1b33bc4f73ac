package picture

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUpright(t *testing.T) {
	// Two rows of three pixels, as they are stored.
	p := Picture{3, 2, 1, []byte{1, 2, 3, 4, 5, 6}}
	want := map[int]Picture{
		0: p,
		1: p,
		2: {3, 2, 1, []byte{3, 2, 1, 6, 5, 4}},
		3: {3, 2, 1, []byte{6, 5, 4, 3, 2, 1}},
		4: {3, 2, 1, []byte{4, 5, 6, 1, 2, 3}},
		5: {2, 3, 1, []byte{1, 4, 2, 5, 3, 6}},
		6: {2, 3, 1, []byte{4, 1, 5, 2, 6, 3}},
		7: {2, 3, 1, []byte{6, 3, 5, 2, 4, 1}},
		8: {2, 3, 1, []byte{3, 6, 2, 5, 1, 4}},
		9: p,
	}
	for orientation, want := range want {
		if diff := cmp.Diff(want, p.upright(orientation)); diff != "" {
			t.Errorf("orientation %d: -want +got\n%s", orientation, diff)
		}
	}
}

func TestOrientationByteOrder(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		b := []byte("II*\x00")
		if order == binary.AppendByteOrder(binary.BigEndian) {
			b = []byte("MM\x00*")
		}
		b = order.AppendUint32(b, 8)
		b = order.AppendUint16(b, 1)
		b = order.AppendUint16(b, tagOrientation)
		b = order.AppendUint16(b, typeShort)
		b = order.AppendUint32(b, 1)
		b = order.AppendUint16(b, 6)
		b = append(b, 0, 0)
		if got := orientationTIFF(b); got != 6 {
			t.Errorf("%v: got orientation %d, want 6", order, got)
		}
	}
}

func FuzzOrientation(f *testing.F) {
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"))
	f.Add([]byte("MM\x00*\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := orientationTIFF(body)
		size := binary.BigEndian.AppendUint16(nil, uint16(len(body)+8))
		jpeg := append([]byte("\xff\xd8\xff\xe1"), append(size, append([]byte("Exif\x00\x00"), body...)...)...)
		if got := orientationJPEG(jpeg); len(body) < 1<<15 && got != n {
			t.Errorf("got %d from a JPEG, want %d", got, n)
		}
		orientationJPEG(append([]byte("\xff\xd8"), body...))
		orientationPNG(append([]byte("\x89PNG\r\n\x1a\n"), body...))
		orientationWebP(append(bytes.Repeat([]byte{0}, 12), body...))
	})
}
