package rows

import (
	"mime"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

// Files makes a file of each answer: of an output of Objects, and what is in a tar or zip. It is used
// by one goroutine at a time.
type Files struct {
	answers answers
	objects bool
	taken   map[string]bool
	others  *Source // of an output of objects: whose other files get names, too; may be nil
}

// NewFiles makes the files of a part of an output, whose rows are of the input in; it may be nil. The
// errors are those of Check.
func NewFiles(out actions.BatchOutput, in *Source) (*Files, error) {
	if err := Check(out); err != nil {
		return nil, err
	}
	f := newFiles(out)
	f.others = in
	return f, nil
}

func newFiles(out actions.BatchOutput) *Files {
	return &Files{answers: newAnswers(out), objects: Format(out) == actions.Objects, taken: map[string]bool{}}
}

// File returns the file of an answer. Its Filename is a path with slashes that leads nowhere else:
// the row's key with the extension of the answer's media type, in folders as the key has them.
// The row's number is put into a name that another answer has or may get, or that had to be
// changed to be one; and into those of objects that are named by a column, because of all the
// other parts nobody knows. Data may be the answer's. The error is Invalid: nothing of it can be selected.
func (f *Files) File(a Answer) (actions.File, error) {
	file := actions.File{ContentType: a.ContentType, Data: a.Data}
	if isJSON(&a) {
		file.ContentType = "application/json"
	}
	if len(f.answers.selected) > 0 {
		data, err := f.answers.appendPrediction(nil, &a)
		if err != nil {
			return actions.File{}, err
		}
		file.Data = data
	}
	file.Filename = f.name(&a)
	return file, nil
}

func (f *Files) name(a *Answer) string {
	key := string(a.Row.Key)
	if strings.HasPrefix(key, `"`) {
		key = text(a.Row.Key)
	}
	number := strconv.FormatInt(a.Row.Number, 10)
	base, extension := cleanPath(key), extensionOf(a)
	changed := base != key
	meant := false // for another file, of a part that this one does not see
	if n := len(base) - len(extension); n > 0 && strings.EqualFold(base[n:], extension) {
		base, extension = base[:n], base[n:]
		meant = f.objects && f.others != nil && f.others.has(base)
	}
	name := base + extension
	byColumn := f.objects && a.Row.File == nil && key != number
	if changed || byColumn || meant || f.taken[name] {
		name = base + "-" + number + extension
	}
	f.taken[name] = true
	return name
}

// maxName is how many bytes each part of a path may have, which leaves room for what is added.
const maxName = 200

// cleanPath makes a path of a key: without what leads elsewhere, without control characters and
// backslashes, each part of it short. It is never empty.
func cleanPath(key string) string {
	var parts []string
	for part := range strings.SplitSeq(key, "/") {
		part = strings.Map(func(r rune) rune {
			if r < ' ' || r == '\\' || r == 0x7f || r == utf8.RuneError {
				return '_'
			}
			return r
		}, part)
		for len(part) > maxName || !utf8.ValidString(part) {
			part = part[:min(len(part)-1, maxName)]
		}
		if part != "" && part != "." && part != ".." {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "row"
	}
	return strings.Join(parts, "/")
}

// extensionOf is the extension of an answer: of its media type, else of the name that the model
// gave it.
func extensionOf(a *Answer) string {
	if isJSON(a) {
		return ".json"
	}
	mediaType, _, err := mime.ParseMediaType(a.ContentType)
	if err != nil {
		mediaType = ""
	}
	for _, t := range mediaTypes() {
		if t[1] == mediaType && t[0] != ".bin" {
			return t[0]
		}
	}
	ext := path.Ext(a.Filename)
	if len(ext) > 1 && len(ext) <= 16 && strings.Trim(strings.ToLower(ext[1:]), "abcdefghijklmnopqrstuvwxyz0123456789") == "" {
		return ext
	}
	return ".bin"
}

// isPacked says whether files of a media type are compressed already.
func isPacked(contentType string) bool {
	for _, t := range []string{"image/png", "image/jpeg", "image/gif", "image/webp", "audio/mpeg", "audio/flac", "audio/ogg", "video/", "application/zip"} {
		if strings.HasPrefix(contentType, t) {
			return true
		}
	}
	return false
}
