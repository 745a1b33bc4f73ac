package deploy

import (
	"bufio"
	"io"
	"strings"
)

// Properties are the settings of wsk's file, ~/.wskprops, by their names in upper case:
// APIHOST, AUTH and others.
type Properties map[string]string

// maxProperty is how long a line of the file may be.
const maxProperty = 64 << 10

// ReadProperties reads lines NAME=VALUE. A value may have a '=' in it; what begins with
// '#' and what has no '=' is passed over. The error is that of r, or of a line that is too
// long.
func ReadProperties(r io.Reader) (Properties, error) {
	props := Properties{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxProperty)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		name = strings.ToUpper(strings.TrimSpace(name))
		if !ok || name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		props[name] = strings.TrimSpace(value)
	}
	return props, lines.Err()
}
