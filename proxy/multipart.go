package proxy

import (
	"bytes"
	"fmt"
	"mime"
	"path"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	// maxParts is how many parts a form may have.
	maxParts = 1000
	// maxPartHeader is how many bytes the header of a part may have.
	maxPartHeader = 8 << 10
	// maxBoundary is RFC 2046's.
	maxBoundary = 70
)

// parseMultipart takes a multipart/form-data body apart. The files are slices of the
// body; nothing is written to disk.
func parseMultipart(body []byte, boundary string) (actions.Values, error) {
	v := actions.Values{Text: make(map[string][]string)}
	if boundary == "" || len(boundary) > maxBoundary {
		return v, badForm("the boundary must have 1 to %d bytes", maxBoundary)
	}
	// The end of a line before a boundary belongs to the boundary, not to the part.
	line := []byte("\r\n--" + boundary)
	rest, found := bytes.CutPrefix(body, line[2:])
	if !found {
		_, rest, found = cutPart(body, line)
	}
	for n := 0; found; n++ {
		if bytes.HasPrefix(rest, []byte("--")) {
			return v, nil
		}
		if n == maxParts {
			return v, badForm("there are more than %d parts", maxParts)
		}
		var part []byte
		if rest, found = bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte("\r\n")); !found {
			break
		}
		if part, rest, found = cutPart(rest, line); !found {
			break
		}
		if err := addPart(&v, part); err != nil {
			return v, err
		}
	}
	return v, badForm("a boundary is missing; is the body complete?")
}

// cutPart cuts a part, header and content, at the next boundary. What only begins like
// the boundary is content.
func cutPart(rest, line []byte) (part, after []byte, found bool) {
	for from := 0; ; {
		i := bytes.Index(rest[from:], line)
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

// addPart adds one part to the values: a file when it says a file name or the media
// type of one, else a text.
func addPart(v *actions.Values, part []byte) error {
	header, data, ok := bytes.Cut(part, []byte("\r\n\r\n"))
	if !ok {
		if header, ok = bytes.CutSuffix(part, []byte("\r\n")); !ok {
			return badForm("the header of a part has no end")
		}
	}
	if len(header) > maxPartHeader {
		return badForm("the header of a part has more than %d bytes", maxPartHeader)
	}
	var disposition, contentType string
	for line := range strings.SplitSeq(string(header), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return badForm("the header of a part has a line without a colon")
		}
		switch strings.ToLower(name) {
		case "content-disposition":
			disposition = strings.TrimSpace(value)
		case "content-type":
			contentType = strings.TrimSpace(value)
		}
	}
	kind, params, err := mime.ParseMediaType(disposition)
	if err != nil || kind != "form-data" || params["name"] == "" {
		return badForm("a part does not say Content-Disposition: form-data with a name")
	}
	filename, isFile := params["filename"]
	if isFile || !isText(contentType) {
		v.Files = append(v.Files, actions.File{
			Name: params["name"], Filename: baseName(filename), ContentType: contentType, Data: data,
		})
		return nil
	}
	v.Text[params["name"]] = append(v.Text[params["name"]], string(data))
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
