package actions

import "encoding/json"

// Values are the arguments of an invocation as a caller gave them.
type Values struct {
	// Text holds the values of a query string or a form, by name. They win over JSON
	// and are converted by the argument's type.
	Text map[string][]string
	// Files are uploaded files, by argument name.
	Files []File
	// JSON holds the members of a JSON object, each of them valid JSON. A file in it is
	// a base64 string, a data: URI or {"data": base64, "filename", "content_type"}, or
	// an array of those.
	JSON map[string]json.RawMessage
}
