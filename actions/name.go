package actions

import "strings"

// ModelName makes a name that a model can have of any text: letters in lower case, and '-'
// for what no name has. When nothing of it is left it is the fallback, which must be such
// a name.
func ModelName(s, fallback string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case strings.ContainsRune(lower+digits+"-_.", r):
			return r
		}
		return '-'
	}, s)
	name = strings.TrimLeft(name, "-_.")
	name = strings.TrimRight(name[:min(len(name), maxName)], "-_.")
	if name == "" {
		return fallback
	}
	return name
}
