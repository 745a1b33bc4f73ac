package actions

import (
	"mime"
	"strings"
)

// IsJSON says whether a media type, with or without parameters, is that of JSON or of a
// format that is written in JSON, as application/problem+json. None is not.
func IsJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(contentType) // wrong parameters leave the type
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}
