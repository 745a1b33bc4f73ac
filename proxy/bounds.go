package proxy

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

// restrict adds to a parameter, or to the items of one, what its schema says of values of
// its type.
func restrict(f, schema fields) {
	var words []string
	switch f["type"] {
	case "integer", "number":
		words = []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format", "enum"}
	case "string":
		words = []string{"minLength", "maxLength", "pattern", "x-pattern", "format", "enum"}
	case "array":
		words = []string{"minItems", "maxItems"}
	}
	if schema["type"] != f["type"] {
		words = nil
	}
	for _, word := range words {
		if value, ok := schema[word]; ok && f[word] == nil {
			f[word] = value
		}
	}
}

// addDefault adds the default. One that OpenAPI does not take, because it is an object or
// does not keep to what the parameter says, is for the page.
func addDefault(f fields, p actions.Parameter) {
	raw := compact(p.Default)
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case f["x-json"] == nil && permits(f, raw):
		f["default"] = raw
	default:
		f["x-default"] = raw
	}
}

// permits says whether a value certainly keeps to what a parameter says.
func permits(f fields, raw json.RawMessage) bool {
	if choices, ok := f["enum"].([]json.RawMessage); ok &&
		!slices.ContainsFunc(choices, func(c json.RawMessage) bool { return bytes.Equal(c, raw) }) {
		return false
	}
	if f["type"] == "array" {
		var list []json.RawMessage
		items, _ := f["items"].(fields)
		return json.Unmarshal(raw, &list) == nil && list != nil && permitsSize(f, "Items", len(list)) &&
			!slices.ContainsFunc(list, func(item json.RawMessage) bool { return !permits(items, compact(item)) })
	}
	if len(ofType([]json.RawMessage{raw}, f["type"])) == 0 {
		return false
	}
	switch f["type"] {
	case "string":
		text := jsonText(raw)
		return permitsSize(f, "Length", utf8.RuneCountInString(text)) && matches(f["pattern"], text) && formatted(f["format"], text)
	case "integer", "number":
		return permitsNumber(f, json.Number(raw))
	}
	return true
}

func permitsSize(f fields, what string, size int) bool {
	least, bounded := f["min"+what].(int64)
	most, limited := f["max"+what].(int64)
	return (!bounded || int64(size) >= least) && (!limited || int64(size) <= most)
}

// permitsNumber compares with the bounds, unless they or the number cannot be compared
// exactly.
func permitsNumber(f fields, n json.Number) bool {
	const exact = 1 << 53
	value, err := n.Float64()
	if err != nil || math.Abs(value) > exact {
		return false
	}
	if format := f["format"]; format == "int32" && (value < math.MinInt32 || value > math.MaxInt32) {
		return false
	}
	for _, bound := range []struct {
		name, exclusive string
		sign            float64
	}{{"minimum", "exclusiveMinimum", 1}, {"maximum", "exclusiveMaximum", -1}} {
		limit, ok := f[bound.name].(json.Number)
		if !ok {
			continue
		}
		at, err := limit.Float64()
		over := bound.sign * (value - at)
		if err != nil || math.Abs(at) > exact || over < 0 || over == 0 && f[bound.exclusive] == true {
			return false
		}
	}
	return true
}

// portable says whether the syntax of a pattern means the same to all who read it.
func portable(pattern string) bool {
	for _, own := range []string{`\p`, `\P`, `\Q`, `\z`, `\C`, `\x{`, "[[:", "[:", "(?"} {
		if strings.Contains(pattern, own) {
			return false
		}
	}
	_, err := regexp.Compile(pattern)
	return err == nil
}

// matches says whether a text matches a pattern that is portable; nil is none.
func matches(pattern any, text string) bool {
	p, _ := pattern.(string)
	re, err := regexp.Compile(p)
	return err == nil && re.MatchString(text)
}

// formatted says whether a text has a format that is looked into by those who read the
// document.
func formatted(format any, text string) bool {
	var err error
	switch format {
	case nil, "password", "binary", "uri", "url":
	case "date-time":
		_, err = time.Parse(time.RFC3339, text)
	case "date":
		_, err = time.Parse(time.DateOnly, text)
	case "ipv4", "ipv6":
		var a netip.Addr
		a, err = netip.ParseAddr(text)
		return err == nil && a.Is4() == (format == "ipv4") && a.Zone() == ""
	case "email":
		return strings.Count(text, "@") == 1
	default:
		return false // nobody knows
	}
	return err == nil
}
