package rows

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// formatOf tells a format by the name of an object, "" when the name says nothing.
func formatOf(name string) string {
	name = strings.ToLower(path.Base(name))
	if strings.HasSuffix(name, ".tgz") {
		return actions.Tar
	}
	plain, isGzip := strings.CutSuffix(name, ".gz")
	switch path.Ext(plain) {
	case ".ndjson", ".jsonl":
		return actions.NDJSON
	case ".csv", ".tsv":
		return actions.CSV
	case ".tar":
		return actions.Tar
	}
	if isGzip {
		return ""
	}
	switch path.Ext(plain) {
	case ".parquet":
		return actions.Parquet
	case ".zip":
		return actions.Zip
	}
	return ""
}

// isGzip says whether an object is compressed, by its name.
func isGzip(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".tgz")
}

// isHidden says whether a name is one of those that programs leave beside data: _SUCCESS,
// _manifest.json, .crc.
func isHidden(name string) bool {
	base := path.Base(name)
	return base[0] == '_' || base[0] == '.'
}

// delimiterOf is what separates the columns of a CSV.
func delimiterOf(in actions.BatchInput, name string) byte {
	if in.Delimiter != "" {
		return in.Delimiter[0]
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".gz")
	if strings.HasSuffix(name, ".tsv") {
		return '\t'
	}
	return ','
}

// mediaTypes are the types of files by their extension. The system's table is not asked, since
// it is another on each machine, and outputs have to be the same. The first extension of
// a type is the one that files of it get.
func mediaTypes() [][2]string {
	return [][2]string{
		{".json", "application/json"},
		{".ndjson", "application/x-ndjson"},
		{".txt", "text/plain"},
		{".csv", "text/csv"},
		{".html", "text/html"},
		{".xml", "application/xml"},
		{".xml", "text/xml"},
		{".png", "image/png"},
		{".jpg", "image/jpeg"},
		{".jpeg", "image/jpeg"},
		{".gif", "image/gif"},
		{".webp", "image/webp"},
		{".tif", "image/tiff"},
		{".tiff", "image/tiff"},
		{".bmp", "image/bmp"},
		{".svg", "image/svg+xml"},
		{".pdf", "application/pdf"},
		{".wav", "audio/wav"},
		{".wav", "audio/x-wav"},
		{".wav", "audio/wave"},
		{".mp3", "audio/mpeg"},
		{".flac", "audio/flac"},
		{".ogg", "audio/ogg"},
		{".mp4", "video/mp4"},
		{".zip", "application/zip"},
		{".npy", "application/x-npy"},
		{".bin", "application/octet-stream"},
	}
}

// contentTypeOf tells the media type of a file by its extension, else by its first bytes.
func contentTypeOf(name string, data []byte) string {
	ext := strings.ToLower(path.Ext(name))
	for _, t := range mediaTypes() {
		if t[0] == ext {
			return t[1]
		}
	}
	return http.DetectContentType(data)
}

// matches says whether a name matches the pattern of an input: the last element of it when the
// pattern has no slash. The pattern was checked.
func matches(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	if !strings.Contains(pattern, "/") {
		name = path.Base(name)
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

// CheckInput refuses what no input can be, with an *actions.Error Invalid.
func CheckInput(in actions.BatchInput) error {
	switch in.Format {
	case "", actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip, actions.Objects:
	default:
		return invalid("input.format", "is %.40q, but the formats are %s", in.Format, formats)
	}
	if _, err := path.Match(in.Match, ""); err != nil {
		return invalid("input.match", "is no pattern: %.100q; a pattern is as *.png, [ab]? or images/*.jpg", in.Match)
	}
	if d := in.Delimiter; d != "" && (len(d) != 1 || d[0] >= 0x80 || strings.Contains("\"\r\n\x00", d)) {
		return invalid("input.delimiter", "is %.40q, but has to be one ASCII character, and no quote", d)
	}
	if len(in.Text) > 0 && in.Format != "" && in.Format != actions.CSV {
		return noText(in.Format)
	}
	if slices.Contains(in.Text, "") {
		return invalid("input.text", "names a column without a name")
	}
	if in.URL == "" {
		return invalid("input.url", "is missing: name an object, or a prefix that ends in /")
	}
	return nil
}

// noText is the error of columns that are to be read as text where they have types.
func noText(format string) error {
	return invalid("input.text", "is for csv alone, whose cells have no types; the input is %s", format)
}

const formats = "ndjson, csv, parquet, tar, zip and objects"

// invalid is the error of a setting of a batch, which is named as in its JSON.
func invalid(field, format string, args ...any) *actions.Error {
	e := actions.Errorf(actions.Invalid, format, args...)
	e.Fields = map[string][]string{field: {e.Msg}}
	e.Msg = field + " " + e.Msg
	return e
}
