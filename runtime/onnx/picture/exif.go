package picture

import (
	"bytes"
	"encoding/binary"
)

// The orientation of a picture is entry 0x0112 of the first directory of a TIFF
// structure. A TIFF file is one; the other formats carry one inside. Whatever is wrong
// with it means that the picture is taken as it is stored.

const (
	tagCompression = 0x0103
	tagPhotometric = 0x0106
	tagOrientation = 0x0112
	typeShort      = 3
)

func orientationTIFF(data []byte) int { return tag(data, tagOrientation) }

// tag returns a number from the first directory of a TIFF structure, or 0.
func tag(data []byte, id uint16) int {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte("II*\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return 0
	}
	if len(data) < 8 {
		return 0
	}
	at := uint64(order.Uint32(data[4:]))
	if at+2 > uint64(len(data)) {
		return 0
	}
	entries := data[at+2:]
	for n := order.Uint16(data[at:]); n > 0 && len(entries) >= 12; n-- {
		if order.Uint16(entries) == id {
			if order.Uint16(entries[2:]) != typeShort {
				return 0
			}
			return int(order.Uint16(entries[8:]))
		}
		entries = entries[12:]
	}
	return 0
}

// orientationEXIF reads the body of an EXIF block, with or without its own header.
func orientationEXIF(body []byte) int {
	return orientationTIFF(bytes.TrimPrefix(body, []byte("Exif\x00\x00")))
}

// orientationJPEG looks into the first APP1 segment that holds EXIF.
func orientationJPEG(data []byte) int {
	const app1, startOfScan = 0xe1, 0xda
	for data = data[2:]; len(data) >= 4 && data[0] == 0xff; {
		marker := data[1]
		if marker == 0xff { // a byte of padding before a marker
			data = data[1:]
			continue
		}
		size := int(binary.BigEndian.Uint16(data[2:]))
		if marker == startOfScan || size < 2 || size+2 > len(data) {
			return 0
		}
		body := data[4 : 2+size]
		if marker == app1 && bytes.HasPrefix(body, []byte("Exif\x00\x00")) {
			return orientationEXIF(body)
		}
		data = data[2+size:]
	}
	return 0
}

// orientationPNG looks for a chunk eXIf.
func orientationPNG(data []byte) int {
	for data = data[8:]; len(data) >= 12; {
		size := uint64(binary.BigEndian.Uint32(data))
		if size+12 > uint64(len(data)) {
			return 0
		}
		if string(data[4:8]) == "eXIf" {
			return orientationEXIF(data[8 : 8+size])
		}
		data = data[12+size:]
	}
	return 0
}

// orientationWebP looks for a chunk EXIF.
func orientationWebP(data []byte) int {
	orientation := 0
	chunks(data[12:], func(id string, body []byte) bool {
		if id == "EXIF" {
			orientation = orientationEXIF(body)
		}
		return id == "EXIF"
	})
	return orientation
}
