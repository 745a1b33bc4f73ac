package rows

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// maxSignificant is how many digits a number may have before it is looked at no further: a float
// of 64 bits never has as many.
const maxSignificant = 800

// numberType64 is the type of a number: of 64 bits as a whole number or a float if that holds
// it, else JSON, which has all its digits.
func numberType64(value json.RawMessage) string {
	whole, short := true, len(value) <= 15
	for _, c := range value {
		whole = whole && c != '.' && c|0x20 != 'e'
		short = short && c|0x20 != 'e'
	}
	held := short || isHeld(value, whole) // a float holds all of 15 digits
	if whole {
		if _, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			if held {
				return integerType
			}
			return longType
		}
	}
	if held {
		return numberType
	}
	return jsonType
}

// isHeld says whether a float of 64 bits holds a number: written with as many digits, it is the
// same. So it is for whole numbers exactly, and for all that a float has ever been written as.
func isHeld(value json.RawMessage, whole bool) bool {
	digits := significant(value, whole)
	switch {
	case len(digits) == 0:
		return true // 0
	case len(digits) > maxSignificant:
		return false
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil {
		return false // too large
	}
	var space [32]byte
	back := strconv.AppendFloat(space[:0], math.Abs(f), 'e', len(digits)-1, 64) // d.ddde±dd
	return back[0] == digits[0] && (len(digits) == 1 || bytes.Equal(back[2:len(digits)+1], digits[1:]))
}

// significant returns the digits of a number from the first that is not 0 to the last, which may
// be 0 only in a whole number.
func significant(value json.RawMessage, whole bool) []byte {
	digits := make([]byte, 0, 24)
	for _, c := range value {
		if c == 'e' || c == 'E' {
			break
		}
		if c >= '0' && c <= '9' {
			digits = append(digits, c)
		}
	}
	digits = bytes.TrimLeft(digits, "0")
	if whole {
		return digits
	}
	return bytes.TrimRight(digits, "0")
}

// csvKey is what a cell of a CSV is as a key. A number is one only if there is no other way to
// write it; as JSON, 1.1 and 1.10 were the same number.
func csvKey(value json.RawMessage) json.RawMessage {
	whole := !bytes.ContainsAny(value, ".eE") && string(value) != "-0"
	if value[0] == '"' || whole && (value[0] == '-' || value[0] >= '0' && value[0] <= '9') {
		return value
	}
	return quote([]byte(value))
}
