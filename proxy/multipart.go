package proxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"path"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	// maxParts is how many parts a form may have: a long list is a part for each item.
	maxParts = 20_000
	// maxGiven is how many texts may go to a model that parses its own arguments.
	maxGiven = 20_000
	// maxPartHeader is how many bytes the header of a part may have.
	maxPartHeader = 8 << 10
	// maxBoundary is RFC 2046's.
	maxBoundary = 70
	// maxTexts is how many bytes the texts of a form may have, which are copied.
	maxTexts = 32 << 20
)

// A part is one part of a form. Its data are a slice of the body.
type part struct {
	name, filename, contentType string
	// isFile says that the part says a file name, which may be empty.
	isFile bool
	data   []byte
	// encoding is the Content-Transfer-Encoding, in lower case. RFC 7578 has no use for
	// it, but clients that build forms as e-mail send it.
	encoding string
}

func (p part) file() actions.File {
	return actions.File{Name: p.name, Filename: p.filename, ContentType: p.contentType, Data: p.data}
}

// parseMultipart takes a multipart/form-data body apart: a part is a file when it says a
// file name or the media type of one, else a text. The files are slices of the body.
func parseMultipart(r *request, boundary string) (actions.Values, error) {
	v := actions.Values{Text: make(map[string][]string)}
	size := 0
	err := scanMultipart(r, boundary, func(p part) error {
		if p.isFile || !isText(p.contentType) {
			v.Files = append(v.Files, p.file())
			return nil
		}
		if size += len(p.data); size > maxTexts {
			return longTexts()
		}
		if err := r.take(int64(len(p.data))); err != nil {
			return err
		}
		v.Text[p.name] = append(v.Text[p.name], string(p.data))
		return nil
	})
	return v, err
}

// scanMultipart calls add for each part of a multipart/form-data body, until it returns
// an error. Nothing is copied but what has a transfer encoding.
func scanMultipart(r *request, boundary string, add func(part) error) error {
	if boundary == "" || len(boundary) > maxBoundary {
		return badForm("the boundary must have 1 to %d bytes", maxBoundary)
	}
	// The end of a line before a boundary belongs to the boundary, not to the part.
	line := []byte("\r\n--" + boundary)
	rest, found := bytes.CutPrefix(r.body, line[2:])
	if !found {
		_, rest, found = cutPart(r.body, line, r.forget)
	}
	for n := 0; found; n++ {
		if bytes.HasPrefix(rest, []byte("--")) {
			return nil
		}
		if n == maxParts {
			return badForm("there are more than %d parts", maxParts)
		}
		var text []byte
		if rest, found = bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte("\r\n")); !found {
			break
		}
		if text, rest, found = cutPart(rest, line, r.forget); !found {
			break
		}
		p, err := parsePart(text)
		if err == nil {
			err = p.decode(r)
		}
		if err == nil {
			err = add(p)
		}
		if err != nil {
			return err
		}
	}
	return badForm("a boundary is missing; is the body complete?")
}

// cutPart cuts a part, header and content, at the next boundary. What only begins like
// the boundary is content.
func cutPart(rest, line []byte, forget func([]byte)) (part, after []byte, found bool) {
	for from := 0; ; {
		i := index(rest[from:], line, forget)
		if i < 0 {
			return nil, nil, false
		}
		i += from
		after = rest[i+len(line):]
		if len(after) >= 2 && (string(after[:2]) == "--" || after[0] == '\r' || after[0] == ' ' || after[0] == '\t') {
			return rest[:i:i], after, true
		}
		from = i + 2
	}
}

// index is bytes.Index. It forgets what it has looked at in vain, if that can be
// forgotten: a body on disk may be larger than the memory.
func index(data, line []byte, forget func([]byte)) int {
	if forget == nil {
		return bytes.Index(data, line)
	}
	for at := 0; ; at += window {
		end := min(at+window+len(line)-1, len(data))
		if i := bytes.Index(data[at:end], line); i >= 0 {
			return at + i
		}
		if end == len(data) {
			return -1
		}
		forget(data[at : at+window])
	}
}

// parsePart reads the header of a part.
func parsePart(text []byte) (p part, err error) {
	header, data, ok := bytes.Cut(text, []byte("\r\n\r\n"))
	if !ok {
		if header, ok = bytes.CutSuffix(text, []byte("\r\n")); !ok {
			return p, badForm("the header of a part has no end")
		}
	}
	if len(header) > maxPartHeader {
		return p, badForm("the header of a part has more than %d bytes", maxPartHeader)
	}
	p.data = data
	var disposition string
	for line := range strings.SplitSeq(string(header), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return p, badForm("the header of a part has a line without a colon")
		}
		switch strings.ToLower(name) {
		case "content-disposition":
			disposition = strings.TrimSpace(value)
		case "content-type":
			p.contentType = strings.TrimSpace(value)
		case "content-transfer-encoding":
			p.encoding = strings.ToLower(strings.TrimSpace(value))
		}
	}
	kind, params, err := mime.ParseMediaType(disposition)
	if err != nil || kind != "form-data" || params["name"] == "" {
		return p, badForm("a part does not say Content-Disposition: form-data with a name")
	}
	p.name = params["name"]
	p.filename, p.isFile = params["filename"]
	p.filename = baseName(p.filename)
	return p, nil
}

// decode undoes the transfer encoding of a part.
func (p *part) decode(r *request) (err error) {
	switch p.encoding {
	case "", "binary", "8bit", "7bit":
		return nil
	case "base64", "quoted-printable":
	default:
		return badForm("the Content-Transfer-Encoding of a part is %q", short(p.encoding))
	}
	if err := r.take(int64(len(p.data))); err != nil {
		return err
	}
	decoded, n := make([]byte, len(p.data)), 0 // neither encoding is shorter than what it stands for
	if p.encoding == "base64" {
		n, err = base64.StdEncoding.Decode(decoded, p.data)
	} else {
		n, err = io.ReadFull(quotedprintable.NewReader(bytes.NewReader(p.data)), decoded)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // of the part
			err = nil
		}
	}
	if err != nil {
		return badForm("a part is not %s: %v", p.encoding, err)
	}
	p.data = decoded[:n]
	return nil
}

// baseName returns a file name without the folders that a sender may have put before it.
func baseName(filename string) string {
	base := path.Base(strings.ReplaceAll(filename, `\`, "/"))
	if base == "." || base == ".." || base == "/" {
		return ""
	}
	return base
}

// isText says whether a part of that type and without a file name is a text.
func isText(contentType string) bool {
	return contentType == "" || strings.HasPrefix(contentType, "text/") || isJSON(contentType)
}

func badForm(format string, args ...any) error {
	return actions.Errorf(actions.Invalid, "the multipart form is wrong: %s", fmt.Sprintf(format, args...))
}

func longTexts() *actions.Error {
	return actions.Errorf(actions.TooLarge, "the texts of the form have more than %d bytes; send a file", maxTexts)
}
