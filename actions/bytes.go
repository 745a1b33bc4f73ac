package actions

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a number of bytes. Its text is a whole number, with a unit or without:
// "4 GiB", "512MB", "1073741824".
type Bytes int64

// unit is a unit of Bytes.
type unit struct {
	name string
	size int64
}

// units returns the units, the largest first; those of 1024 are also what people mean who
// write "G".
func units() []unit {
	return []unit{
		{"TIB", 1 << 40},
		{"GIB", 1 << 30},
		{"MIB", 1 << 20},
		{"KIB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"KB", 1e3},
		{"T", 1 << 40},
		{"G", 1 << 30},
		{"M", 1 << 20},
		{"K", 1 << 10},
		{"B", 1},
	}
}

// ParseBytes reads the text of Bytes. The error is an *Error Invalid.
func ParseBytes(text string) (Bytes, error) {
	number, size := strings.ToUpper(strings.TrimSpace(text)), int64(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && n <= math.MaxInt64/size {
		return Bytes(n * size), nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f >= 0 && f*float64(size) < math.MaxInt64) || strings.Trim(number, ".0123456789") != "" {
		return 0, Errorf(Invalid, "%.40q is no number of bytes; write it as 4 GiB, 512 MB or 1073741824", text)
	}
	return Bytes(f * float64(size)), nil
}

// String writes the number for people: "4 GiB", "1.5 GiB", "700 B".
func (b Bytes) String() string {
	for _, u := range units()[:4] {
		if abs := max(b, -b); int64(abs) >= u.size {
			text := strconv.FormatFloat(math.Round(float64(b)/float64(u.size)*10)/10, 'f', -1, 64)
			return text + " " + u.name[:1] + "iB"
		}
	}
	return fmt.Sprintf("%d B", int64(b))
}

// Set parses the text, as a flag's value.
func (b *Bytes) Set(text string) (err error) {
	*b, err = ParseBytes(text)
	return err
}

// Type names the value of a flag.
func (b *Bytes) Type() string { return "bytes" }
