package rows

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

// A render appends a value in JSON.
type render = func(b []byte, v parquet.Value) []byte

// valueOf returns how the values of a type are written: by what they mean, and without a meaning
// by how they are stored.
func valueOf(t parquet.Type) render {
	if l := t.LogicalType(); l != nil {
		if r := logicalValue(t, l); r != nil {
			return r
		}
	}
	switch t.Kind() {
	case parquet.Boolean:
		return func(b []byte, v parquet.Value) []byte { return strconv.AppendBool(b, v.Boolean()) }
	case parquet.Int32:
		return func(b []byte, v parquet.Value) []byte { return strconv.AppendInt(b, int64(v.Int32()), 10) }
	case parquet.Int64:
		return func(b []byte, v parquet.Value) []byte { return strconv.AppendInt(b, v.Int64(), 10) }
	case parquet.Int96:
		return appendInt96
	case parquet.Float:
		return func(b []byte, v parquet.Value) []byte { return appendFloat(b, float64(v.Float()), 32) }
	case parquet.Double:
		return func(b []byte, v parquet.Value) []byte { return appendFloat(b, v.Double(), 64) }
	case parquet.ByteArray:
		return func(b []byte, v parquet.Value) []byte { return appendBytes(b, v.ByteArray()) }
	case parquet.FixedLenByteArray:
		return appendBase64
	}
	return appendNull
}

// isJSONColumn says whether the values of a type are JSON.
func isJSONColumn(t parquet.Type) bool {
	l := t.LogicalType()
	if l == nil || t.Kind() != parquet.ByteArray {
		return false
	}
	_, is := l.Value.(*format.JsonType)
	return is
}

// logicalValue is valueOf by a type's meaning, nil where that says nothing new.
func logicalValue(t parquet.Type, l *format.LogicalType) render {
	kind := t.Kind()
	isInt := kind == parquet.Int32 || kind == parquet.Int64
	isBytes := kind == parquet.ByteArray || kind == parquet.FixedLenByteArray
	switch m := l.Value.(type) {
	case *format.DecimalType:
		if m.Scale < 0 || m.Scale > 1000 {
			return nil
		}
		return decimal(kind, int(m.Scale))
	case *format.DateType:
		if kind == parquet.Int32 {
			return appendDate
		}
	case *format.TimeType:
		if isInt {
			return timeOfDay(kind, unitOf(m.Unit))
		}
	case *format.TimestampType:
		if kind == parquet.Int64 {
			return timestamp(unitOf(m.Unit), m.IsAdjustedToUTC)
		}
	case *format.IntType:
		if isInt && !m.IsSigned {
			return unsigned(kind)
		}
	case *format.JsonType:
		if isBytes {
			return appendJSON
		}
	case *format.UUIDType:
		if kind == parquet.FixedLenByteArray && t.Length() == 16 {
			return appendUUID
		}
	case *format.BsonType, *format.GeometryType, *format.GeographyType:
		if isBytes {
			return appendBase64
		}
	}
	return nil
}

func appendNull(b []byte, _ parquet.Value) []byte { return append(b, "null"...) }

// appendFloat appends a number. JSON has none for infinities and what is no number.
func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'g', -1, bits)
	if strings.ContainsAny(string(b[start:]), ".e") {
		return b
	}
	return append(b, ".0"...) // it stays a float for who reads it
}

// appendBytes appends text, and bytes that are none as base64.
func appendBytes(b, v []byte) []byte {
	if utf8.Valid(v) {
		return appendQuoted(b, v)
	}
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, v)
	return append(b, '"')
}

func appendBase64(b []byte, v parquet.Value) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, v.ByteArray())
	return append(b, '"')
}

// appendJSON appends JSON, and what says to be that and is not as text.
func appendJSON(b []byte, v parquet.Value) []byte {
	if jsonscan.Valid(v.ByteArray()) {
		if line, err := appendLine(b, v.ByteArray()); err == nil {
			return line
		}
	}
	return appendBytes(b, v.ByteArray())
}

func appendUUID(b []byte, v parquet.Value) []byte {
	u := v.ByteArray()
	if len(u) != 16 {
		return appendBytes(b, u)
	}
	digits := hex.EncodeToString(u)
	text := strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
	return appendQuoted(b, []byte(text))
}

// appendHalf appends a float of 16 bits: a sign, 5 bits of exponent, 10 of fraction.
func appendHalf(b []byte, v parquet.Value) []byte {
	raw := v.ByteArray()
	if len(raw) != 2 {
		return appendBytes(b, raw)
	}
	bits := int(raw[0]) | int(raw[1])<<8
	fraction, exponent := float64(bits&0x3ff)/1024, bits>>10&0x1f
	f := math.Ldexp(1+fraction, exponent-15)
	switch exponent {
	case 0:
		f = math.Ldexp(fraction, -14)
	case 0x1f:
		return append(b, "null"...)
	}
	if bits>>15 == 1 {
		f = -f
	}
	return appendFloat(b, f, 32)
}

func unsigned(kind parquet.Kind) render {
	return func(b []byte, v parquet.Value) []byte {
		if kind == parquet.Int32 {
			return strconv.AppendUint(b, uint64(v.Uint32()), 10)
		}
		return strconv.AppendUint(b, v.Uint64(), 10)
	}
}

// decimal writes all digits of a number that is stored as a whole one.
func decimal(kind parquet.Kind, scale int) render {
	return func(b []byte, v parquet.Value) []byte {
		n := new(big.Int)
		switch kind {
		case parquet.Int32:
			n.SetInt64(int64(v.Int32()))
		case parquet.Int64:
			n.SetInt64(v.Int64())
		case parquet.ByteArray, parquet.FixedLenByteArray:
			raw := v.ByteArray()
			n.SetBytes(raw)
			if len(raw) > 0 && raw[0] >= 0x80 { // two's complement
				n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
			}
		default:
			return append(b, "null"...)
		}
		if n.Sign() < 0 {
			b = append(b, '-')
			n.Neg(n)
		}
		digits := n.String()
		if pad := scale + 1 - len(digits); pad > 0 {
			digits = strings.Repeat("0", pad) + digits
		}
		b = append(b, digits[:len(digits)-scale]...)
		if scale > 0 {
			b = append(append(b, '.'), digits[len(digits)-scale:]...)
		}
		return b
	}
}

func appendDate(b []byte, v parquet.Value) []byte {
	return appendTime(b, time.Unix(int64(v.Int32())*86400, 0).UTC(), time.DateOnly)
}

func appendTime(b []byte, t time.Time, layout string) []byte {
	b = append(b, '"')
	b = t.AppendFormat(b, layout)
	return append(b, '"')
}

// timestamp writes RFC 3339, without a zone if it is nobody's.
func timestamp(unit time.Duration, utc bool) render {
	layout := "2006-01-02T15:04:05.999999999"
	if utc {
		layout += "Z"
	}
	perSecond := int64(time.Second / unit)
	return func(b []byte, v parquet.Value) []byte {
		seconds, rest := v.Int64()/perSecond, v.Int64()%perSecond
		return appendTime(b, time.Unix(seconds, rest*int64(unit)).UTC(), layout)
	}
}

func timeOfDay(kind parquet.Kind, unit time.Duration) render {
	return func(b []byte, v parquet.Value) []byte {
		n := v.Int64()
		if kind == parquet.Int32 {
			n = int64(v.Int32())
		}
		day := int64(24 * time.Hour / unit)
		return appendTime(b, time.Unix(0, (n%day+day)%day*int64(unit)).UTC(), "15:04:05.999999999")
	}
}

// appendInt96 appends the time that old programs wrote: nanoseconds of a day, and its Julian
// number.
func appendInt96(b []byte, v parquet.Value) []byte {
	const epoch = 2440588
	i := v.Int96()
	nanos := int64(i[0]) | int64(i[1])<<32
	t := time.Unix((int64(i[2])-epoch)*86400, 0).UTC().Add(time.Duration(nanos))
	return appendTime(b, t, "2006-01-02T15:04:05.999999999Z")
}

// unitOf is the unit of a time.
func unitOf(u format.TimeUnit) time.Duration {
	if u.Value == nil {
		return time.Millisecond
	}
	return max(1, u.Value.Duration())
}
