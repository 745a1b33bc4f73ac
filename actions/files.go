package actions

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseFiles decodes the value of an argument that is a file, or an array of files, from
// JSON: each is base64, a data: URI or {"data", "filename", "content_type"}. The value has
// to be valid JSON. The files have the argument's name. The error is an *Error, Invalid,
// with the argument in Fields.
func ParseFiles(name string, value json.RawMessage) ([]File, error) {
	var files []File
	err := errNotJSON()
	if value = bytes.TrimSpace(value); len(value) > 0 {
		files, err = Argument{Name: name, Type: TypeFile}.filesFromJSON(value)
	}
	if err != nil {
		return nil, &Error{Code: Invalid, Msg: name + " " + err.Error(), Fields: map[string][]string{name: {err.Error()}}}
	}
	return files, nil
}

// filesFromText decodes files that came as texts, base64 or data: URIs.
func (a Argument) filesFromText(texts []string) ([]File, error) {
	files := make([]File, 0, len(texts))
	for i, s := range texts {
		f, err := decodeFile([]byte(plusForSpace(s)))
		if err != nil {
			return nil, inList(err, i, len(texts))
		}
		f.Name = a.Name
		files = append(files, f)
	}
	return files, nil
}

// plusForSpace gives base64 its plus signs back, which a query string turns into
// spaces when the client did not escape them.
func plusForSpace(s string) string {
	head, data := "", s
	if isDataURI([]byte(s)) {
		comma := strings.IndexByte(s, ',') + 1
		head, data = s[:comma], s[comma:]
		if _, ok := cutSuffixFold(strings.TrimSuffix(head, ","), ";base64"); !ok {
			return s
		}
	}
	return head + strings.ReplaceAll(data, " ", "+")
}

// filesFromJSON decodes a file, or an array of files, from JSON.
func (a Argument) filesFromJSON(value json.RawMessage) ([]File, error) {
	if value[0] != '[' {
		f, rest, err := cutFile(value)
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errNotJSON()
		}
		f.Name = a.Name
		return []File{f}, nil
	}
	var files []File
	rest := bytes.TrimSpace(value[1:])
	for len(rest) > 0 && rest[0] != ']' {
		f, after, err := cutFile(rest)
		if err != nil {
			return nil, inList(err, len(files), 2)
		}
		f.Name = a.Name
		files = append(files, f)
		rest = bytes.TrimPrefix(bytes.TrimSpace(after), []byte(","))
		rest = bytes.TrimSpace(rest)
	}
	if string(rest) != "]" {
		return nil, errNotJSON()
	}
	return files, nil
}

// inList says which one of n files err is about.
func inList(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("has a wrong file at index %d, which %w", i, err)
}

// errNotJSON is for values that break the promise of Bind's caller.
func errNotJSON() error { return errors.New("is not JSON") }

// cutFile cuts a file off the front of b, a string or an object, and returns what
// follows. It reads the JSON itself, because encoding/json would go over the megabytes
// of a file several times and copy them on the way.
func cutFile(b []byte) (f File, rest []byte, err error) {
	if b[0] == '{' {
		return cutFileObject(b)
	}
	if b[0] == '[' {
		return File{}, nil, fmt.Errorf("must be %s, not an array", TypeFile.phrase())
	}
	if b[0] != '"' {
		other, _, _ := strings.Cut(string(b[:min(len(b), maxShown)]), ",")
		return File{}, nil, fmt.Errorf("must be %s, not %s", TypeFile.phrase(), strings.TrimRight(other, "] \t\r\n"))
	}
	s, rest, ok := cutString(b)
	if !ok {
		return File{}, nil, errNotJSON()
	}
	f, err = decodeFile(s)
	return f, rest, err
}

// cutFileObject cuts {"data", "filename", "content_type"} off the front of b.
func cutFileObject(b []byte) (f File, rest []byte, err error) {
	var filename, contentType []byte
	hasData := false
	rest = bytes.TrimSpace(b[1:])
	for len(rest) > 0 && rest[0] != '}' {
		name, value, ok := cutKey(rest)
		if !ok {
			return File{}, nil, errNotJSON()
		}
		if string(name) != "data" && string(name) != "filename" && string(name) != "content_type" {
			return File{}, nil, fmt.Errorf("is an object with the member %q; a file has data, filename and content_type", shorten(string(name)))
		}
		s, after, ok := cutString(value)
		if !ok {
			return File{}, nil, fmt.Errorf("is an object whose member %s must be a string", name)
		}
		switch string(name) {
		case "data":
			hasData = true
			if f, err = decodeFile(s); err != nil {
				return File{}, nil, err
			}
		case "filename":
			filename = s
		case "content_type":
			contentType = s
		}
		rest = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(after), []byte(",")))
	}
	if len(rest) == 0 {
		return File{}, nil, errNotJSON()
	}
	if !hasData {
		return File{}, nil, errors.New("is an object without the member data, which holds the file in base64")
	}
	f.Filename = string(filename)
	if contentType != nil {
		f.ContentType = string(contentType)
	}
	return f, rest[1:], nil
}

// cutKey cuts a member's name and its colon off the front of b.
func cutKey(b []byte) (name, value []byte, ok bool) {
	name, rest, ok := cutString(b)
	if !ok {
		return nil, nil, false
	}
	value, ok = bytes.CutPrefix(bytes.TrimSpace(rest), []byte(":"))
	return name, bytes.TrimSpace(value), ok
}

// cutString cuts a JSON string off the front of b. The string is a part of b when it
// has no escapes, as base64 has none.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	end := 1 + bytes.IndexByte(b[1:], '"')
	if end == 0 {
		return nil, nil, false
	}
	if bytes.IndexByte(b[1:end], '\\') < 0 {
		return b[1:end], b[end+1:], true
	}
	for end = 1; end < len(b) && b[end] != '"'; end++ {
		if b[end] == '\\' {
			end++
		}
	}
	var text string
	if end >= len(b) || json.Unmarshal(b[:end+1], &text) != nil {
		return nil, nil, false
	}
	return []byte(text), b[end+1:], true
}

// decodeFile decodes base64 or a data: URI.
func decodeFile(s []byte) (File, error) {
	if isDataURI(s) {
		return decodeDataURI(s)
	}
	if i := bytes.Index(s[:min(len(s), 10)], []byte("://")); i > 0 {
		return File{}, errors.New(`is the text of a URL: give {"url": "https://…"} to have it fetched, or send the bytes in base64, as a data: URI or as an upload`)
	}
	data, err := decodeBase64(s, 0)
	return File{Data: data}, err
}

// isDataURI reports whether s begins with data: in any case.
func isDataURI(s []byte) bool {
	return len(s) >= 5 && strings.EqualFold(string(s[:5]), "data:")
}

// decodeDataURI decodes data:[media type][;base64],data of RFC 2397. The media type
// is kept as the sender wrote it.
func decodeDataURI(s []byte) (f File, err error) {
	comma := bytes.IndexByte(s, ',')
	if comma < 0 {
		return File{}, fmt.Errorf("is a data: URI without a comma: %q", shorten(string(s)))
	}
	mediaType, isBase64 := cutSuffixFold(string(s[len("data:"):comma]), ";base64")
	if strings.HasPrefix(mediaType, ";") {
		mediaType = "text/plain" + mediaType // RFC 2397 lets it out when there are parameters
	}
	f.ContentType = mediaType
	start := comma + 1
	switch data := s[start:]; {
	case !isBase64:
		f.Data, err = decodePercent(data, start)
	case bytes.IndexByte(data, '%') >= 0:
		if data, err = decodePercent(data, start); err == nil {
			f.Data, err = decodeBase64(data, start)
		}
	default:
		f.Data, err = decodeBase64(data, start)
	}
	return f, err
}

// cutSuffixFold is strings.CutSuffix for ASCII in any case.
func cutSuffixFold(s, suffix string) (string, bool) {
	i := len(s) - len(suffix)
	if i < 0 || !strings.EqualFold(s[i:], suffix) {
		return s, false
	}
	return s[:i], true
}

// decodePercent decodes %41, and copies everything else. The data begins at offset in
// what the caller sent.
func decodePercent(s []byte, offset int) ([]byte, error) {
	data := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			data = append(data, s[i])
			continue
		}
		var b [1]byte
		if _, err := hex.Decode(b[:], s[i+1:min(i+3, len(s))]); err != nil || i+2 >= len(s) {
			return nil, fmt.Errorf("is a data: URI with a %% at offset %d that two hexadecimal digits do not follow", offset+i)
		}
		data = append(data, b[0])
		i += 2
	}
	return data, nil
}

// decodeBase64 decodes the standard and the URL alphabet, with and without padding
// and white space. The data begins at offset in what the caller sent.
func decodeBase64(s []byte, offset int) ([]byte, error) {
	const space = " \t\r\n"
	body := bytes.TrimRight(s, "="+space)
	encoding := base64.RawStdEncoding
	if bytes.IndexByte(body, '-') >= 0 || bytes.IndexByte(body, '_') >= 0 {
		encoding = base64.RawURLEncoding
	}
	if n := bytes.Count(s[len(body):], []byte("=")); n > 2 {
		return nil, fmt.Errorf("is not base64: it ends in %d padding characters", n)
	}
	data := make([]byte, encoding.DecodedLen(len(body)))
	n, err := encoding.Decode(data, body)
	if err != nil && bytes.ContainsAny(body, " \t") { // Decode passes over \r and \n alone
		n, err = encoding.Decode(data, bytes.Join(bytes.Fields(body), nil))
	}
	if err == nil {
		return data[:n], nil
	}
	for i, c := range body {
		ok := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte(space, c) >= 0
		if encoding == base64.RawStdEncoding {
			ok = ok || c == '+' || c == '/'
		} else {
			ok = ok || c == '-' || c == '_'
		}
		if !ok {
			r, _ := utf8.DecodeRune(body[i:])
			return nil, fmt.Errorf("is not base64: there is a %q at offset %d", r, offset+i)
		}
	}
	return nil, errors.New("is not base64: one character is left over after the groups of four")
}
