package store

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"
)

const (
	escape   = 0x00 // begins the two bytes of the end of a text or of a 00 in it
	textEnd  = 0x01
	textZero = 0xff
)

// appendText appends a text to a key.
func appendText(key []byte, text string) []byte {
	for i := range len(text) {
		key = append(key, text[i])
		if text[i] == escape {
			key = append(key, textZero)
		}
	}
	return append(key, escape, textEnd)
}

// cutText takes a text from a key. It reports false if there is none.
func cutText(key []byte) (text string, rest []byte, ok bool) {
	var found []byte
	for {
		i := bytes.IndexByte(key, escape)
		if i < 0 || i+1 == len(key) {
			return "", nil, false
		}
		found = append(found, key[:i]...)
		mark := key[i+1]
		key = key[i+2:]
		switch mark {
		case textEnd:
			return string(found), key, true
		case textZero:
			found = append(found, escape)
		default:
			return "", nil, false
		}
	}
}

// texts is a key of texts.
func texts(parts ...string) []byte {
	var key []byte
	for _, part := range parts {
		key = appendText(key, part)
	}
	return key
}

// cutTexts takes exactly n texts from a key.
func cutTexts(key []byte, n int) ([]string, bool) {
	parts := make([]string, n)
	for i := range parts {
		var ok bool
		if parts[i], key, ok = cutText(key); !ok {
			return nil, false
		}
	}
	return parts, len(key) == 0
}

// appendNumber appends a number of which the smaller sorts first.
func appendNumber(key []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(key, n) }

// appendTime appends microseconds since 1970, which may be before.
func appendTime(key []byte, micros int64) []byte {
	return appendNumber(key, uint64(micros)^(1<<63))
}

// micros is a time in a key.
func micros(t time.Time) int64 { return t.UnixMicro() }

// between returns the first and the last microsecond of a query in milliseconds, 0 being
// no bound.
func between(since, upto int64) (first, last int64) {
	const perMilli = 1000
	first, last = math.MinInt64, math.MaxInt64
	if since != 0 {
		first = max(since, math.MinInt64/perMilli)
		first = min(first, math.MaxInt64/perMilli) * perMilli
	}
	if upto != 0 && upto < math.MaxInt64/perMilli {
		last = max(upto, math.MinInt64/perMilli)*perMilli + perMilli - 1
	}
	return first, last
}
