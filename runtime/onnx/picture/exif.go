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
	typeByte       = 1
	typeShort      = 3
	typeLong       = 4
)

func orientationTIFF(data []byte) int {
	if v, kind := number(data, tagOrientation); kind == typeShort {
		return v
	}
	return 0
}

// number returns a number from the first directory of a TIFF structure, and its type,
// which is 0 when there is none. Of several it returns the first if they lie in the
// directory itself, else -1.
func number(data []byte, id uint16) (v, kind int) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte("II*\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return 0, 0
	}
	if len(data) < 8 {
		return 0, 0
	}
	at := uint64(order.Uint32(data[4:]))
	if at+2 > uint64(len(data)) {
		return 0, 0
	}
	entries := data[at+2:]
	for n := order.Uint16(data[at:]); n > 0 && len(entries) >= 12; n-- {
		if order.Uint16(entries) == id {
			kind = int(order.Uint16(entries[2:]))
			return element(entries, order, kind), kind
		}
		entries = entries[12:]
	}
	return 0, 0
}

// element returns the first element of an entry.
func element(entry []byte, order binary.ByteOrder, kind int) int {
	count := order.Uint32(entry[4:])
	switch {
	case count == 0:
		return 0
	case kind == typeByte && count <= 4:
		return int(entry[8])
	case kind == typeShort && count <= 2:
		return int(order.Uint16(entry[8:]))
	case kind == typeLong && count == 1:
		return int(order.Uint32(entry[8:]))
	}
	return -1
}

// orientationEXIF reads the body of an EXIF block, with or without its own header.
func orientationEXIF(body []byte) int {
	return orientationTIFF(bytes.TrimPrefix(body, []byte("Exif\x00\x00")))
}

// orientationJPEG looks into the first APP1 segment that holds EXIF.
func orientationJPEG(data []byte) int {
	const app1 = 0xe1
	orientation := 0
	segments(data, func(marker byte, body []byte) bool {
		found := marker == app1 && bytes.HasPrefix(body, []byte("Exif\x00\x00"))
		if found {
			orientation = orientationEXIF(body)
		}
		return found
	})
	return orientation
}

// segments calls f for each segment of a JPEG until f says stop or the pixels begin. It
// ends early where something else than a segment begins.
func segments(data []byte, f func(marker byte, body []byte) (stop bool)) {
	const startOfScan = 0xda
	for data = data[2:]; len(data) >= 4 && data[0] == 0xff; {
		marker := data[1]
		if marker == 0xff { // a byte of padding before a marker
			data = data[1:]
			continue
		}
		size := int(binary.BigEndian.Uint16(data[2:]))
		alone := marker == 0 || marker >= 0xd0 && marker <= 0xd9 // without a length
		if alone || marker == startOfScan || size < 2 || size+2 > len(data) || f(marker, data[4:2+size]) {
			return
		}
		data = data[2+size:]
	}
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
