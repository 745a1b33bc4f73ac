package proxy

import (
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	// traceLength is the length of a traceparent of version 00.
	traceLength = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	// maxMembers and maxState are how many members and bytes of a tracestate are handed on:
	// the specification wants that many at least.
	maxStateMembers = 32
	maxState        = 512
	// longMember is the length over which a member is left out first when there are too
	// many bytes.
	longMember = 128
)

// traceContext returns the trace context in the header of a request, by the rules of
// https://www.w3.org/TR/trace-context/. It is empty when there is none, or one that must
// not be believed: then a new trace begins. A state that breaks the rules is left out.
func (r *request) traceContext() actions.Trace {
	if r.header == nil || r.peek != nil && r.peek.Peek("traceparent") == nil {
		return actions.Trace{}
	}
	parent, many := "", false
	r.header("traceparent", func(_, value string) { parent, many = strings.Trim(value, " \t"), parent != "" })
	parent, ok := parseParent(parent)
	if many || !ok {
		return actions.Trace{}
	}
	var states []string
	r.header("tracestate", func(_, value string) { states = append(states, value) })
	return actions.Trace{Parent: parent, State: parseState(strings.Join(states, ","))}
}

// parseParent checks a traceparent. Of a later version than ours it takes what ours has,
// and makes one of version 00 of it.
func parseParent(text string) (parent string, ok bool) {
	if len(text) < traceLength || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return "", false
	}
	version, trace, span, flags := text[:2], text[3:35], text[36:52], text[53:55]
	for _, part := range []string{version, trace, span, flags} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return "", false
		}
	}
	switch {
	case version == "ff", strings.Trim(trace, "0") == "", strings.Trim(span, "0") == "":
		return "", false
	case version == "00":
		return text, len(text) == traceLength
	case len(text) > traceLength && text[traceLength] != '-':
		return "", false
	}
	return "00-" + trace + "-" + span + "-" + flags, true
}

// parseState checks a tracestate and bounds it: what is too much is left out from the right,
// long members first, as the specification has it. It returns "" for one that breaks the
// rules.
func parseState(text string) string {
	var members []string
	for member := range strings.SplitSeq(text, ",") {
		if member = strings.Trim(member, " \t"); member == "" {
			continue // which is allowed
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || !isStateKey(key) || !isStateValue(value) || len(members) == maxStateMembers {
			return ""
		}
		for _, other := range members {
			if strings.HasPrefix(other, key+"=") {
				return ""
			}
		}
		members = append(members, member)
	}
	return boundState(members)
}

// boundState joins members, as many as there is room for.
func boundState(members []string) string {
	size := -1
	for _, member := range members {
		size += len(member) + 1
	}
	for _, most := range []int{longMember, 0} {
		for i := len(members) - 1; i >= 0 && size > maxState; i-- {
			if len(members[i]) > most {
				size -= len(members[i]) + 1
				members = append(members[:i:i], members[i+1:]...)
			}
		}
	}
	return strings.Join(members, ",")
}

// isStateKey says whether a text is a key of a tracestate: a name, or a tenant's, "name@system".
func isStateKey(key string) bool {
	const rest = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
	name, system, tenant := strings.Cut(key, "@")
	if tenant && (len(name) > 241 || len(system) > 14 || !startsLower(system) || strings.Trim(system, rest) != "") {
		return false
	}
	digit := tenant && name != "" && name[0] >= '0' && name[0] <= '9'
	return len(name) <= 256 && (startsLower(name) || digit) && strings.Trim(name, rest) == ""
}

func startsLower(s string) bool { return s != "" && s[0] >= 'a' && s[0] <= 'z' }

// isStateValue says whether a text is a value of a tracestate.
func isStateValue(value string) bool {
	if value == "" || len(value) > 256 {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
