package cloudevent

import (
	"mime"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// checkText says why a text cannot be an attribute: it is too long, or has characters that the
// specification forbids, those that control something and those that are none.
func checkText(name, text string) error {
	if len(text) > maxValue {
		return invalid("the event's %s has more than %d bytes", name, maxValue)
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f {
			return checkRunes(name, text)
		}
	}
	return nil
}

func checkRunes(name, text string) error {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return invalid("the event's %s is not in UTF-8", name)
			}
		}
		if r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe {
			return invalid("the event's %s has the character %U, which no attribute may have", name, r)
		}
	}
	return nil
}

// isName says whether a text can be the name of an attribute.
func isName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// isInteger says whether a text is the canonical form of a number of 32 bits.
func isInteger(text string) bool {
	n, err := strconv.ParseInt(text, 10, 32)
	return err == nil && strconv.FormatInt(n, 10) == text
}

// isReference says whether a text is a URI-reference. It lets pass what net/url does, a space
// too: many senders of binary mode do not encode the percent sign of a URI, whose escapes are
// then decoded with those of the header.
func isReference(text string) bool {
	rest := strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	plain := rest != ""
	for i := 0; plain && i < len(rest); i++ {
		c := rest[i]
		plain = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '/' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
	}
	if plain {
		return true
	}
	_, err := url.Parse(text)
	return err == nil
}

// hasScheme says whether a URI-reference is a URI.
func hasScheme(reference string) bool {
	end := strings.IndexAny(reference, ":/?#")
	return end > 0 && reference[end] == ':'
}

// isMediaType says whether a text is a media type, with or without parameters.
func isMediaType(text string) bool {
	main, sub, ok := strings.Cut(text, "/")
	if ok && isToken(main) && isToken(sub) {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(text)
	return err == nil && strings.Contains(mediaType, "/")
}

// isToken says whether a text is a token of HTTP's.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}

// isTime says whether a text is a timestamp of RFC 3339, which time.Parse does not quite
// know: it takes no leap second and no small letters, but a comma.
func isTime(text string) bool {
	const pattern = "0000-00-00T00:00:00"
	if len(text) <= len(pattern) {
		return false
	}
	for i := range len(pattern) {
		c := text[i]
		if pattern[i] == '0' && (c < '0' || c > '9') || pattern[i] != '0' && c != pattern[i] && c != pattern[i]|0x20 {
			return false
		}
	}
	year, month, day := number(text[:4]), number(text[5:7]), number(text[8:10])
	if month < 1 || month > 12 || day < 1 || day > 28 && day > daysOf(year, month) ||
		number(text[11:13]) > 23 || number(text[14:16]) > 59 || number(text[17:19]) > 60 {
		return false
	}
	rest := text[len(pattern):]
	if rest[0] == '.' {
		digits := 1
		for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
			digits++
		}
		if digits == 1 {
			return false
		}
		rest = rest[digits:]
	}
	return isOffset(rest)
}

// isOffset says whether a text is the end of a timestamp, as "Z" or "+01:00".
func isOffset(text string) bool {
	if text == "Z" || text == "z" {
		return true
	}
	if len(text) != len("+00:00") || text[0] != '+' && text[0] != '-' || text[3] != ':' {
		return false
	}
	for _, i := range [...]int{1, 2, 4, 5} {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return number(text[1:3]) <= 23 && number(text[4:6]) <= 59
}

// number is the value of digits.
func number(digits string) (n int) {
	for i := range len(digits) {
		n = 10*n + int(digits[i]-'0')
	}
	return n
}

func daysOf(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
