package wish

import "strings"

// maxName is how long the name of a Service may be.
const maxName = 63

// ServiceName is the name of a model as a Service: Kubernetes takes lower-case letters,
// digits and '-' there, a letter first. Two models may have one name, such as a_b and a.b.
func ServiceName(model string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, model)
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "m-" + strings.TrimLeft(name, "-")
	}
	return strings.Trim(name[:min(len(name), maxName)], "-")
}
