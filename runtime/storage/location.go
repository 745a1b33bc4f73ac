package storage

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	// maxURL is how long a URL may be: presigned ones have 2 KiB.
	maxURL = 8 << 10
	// maxShown is how many bytes of a URL are in a message.
	maxShown = 200
)

// A location is a URL that a caller has named.
type location struct {
	url     *url.URL
	allowed bool // by a prefix of the operator
	folder  bool // what is meant is all below it
}

// parse reads a URL, whose scheme may be any.
func parse(text string) (location, error) {
	if len(text) > maxURL {
		return location{}, actions.Errorf(actions.Invalid, "the URL has more than %d bytes", maxURL)
	}
	u, err := url.Parse(text)
	if err != nil { // which repeats the URL with its query
		return location{}, &actions.Error{Code: actions.Invalid, Msg: "what is given as a URL is none"}
	}
	l := location{url: u}
	switch {
	case u.Scheme == "":
		return l, actions.Errorf(actions.Invalid, "what is given as a URL has no scheme, as https://")
	case u.Scheme == fileScheme && (u.Opaque != "" || u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		return l, actions.Errorf(actions.Invalid, "what is given as a URL is no file:///path")
	case u.Scheme != fileScheme && (u.Opaque != "" || u.Hostname() == ""):
		return l, actions.Errorf(actions.Invalid, "the %s URL has no host", cut(u.Scheme))
	case u.User != nil:
		return l, actions.Errorf(actions.Invalid, "%s must not hold a name or password", l)
	case !steady(u):
		return l, actions.Errorf(actions.Invalid, "%s has dot segments in its path", l)
	}
	if !isStore(u.Scheme) { // S3's old buckets may have capitals
		u.Host = strings.ToLower(u.Host)
	}
	u.Fragment, u.RawFragment = "", ""
	return l, nil
}

// steady says that nobody who decodes the path, however often, finds a way up in it.
func steady(u *url.URL) bool {
	const most = 8 // nobody encodes a path that often
	path := u.Path
	for range most {
		if !level(path) {
			return false
		}
		plain := decoded(path)
		if plain == path {
			return true
		}
		path = plain
	}
	return false
}

// decoded is a path with its escapes decoded once, and what is none left as it is.
func decoded(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if c, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// level says that no segment of a path leads up.
func level(path string) bool {
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		segment, _, _ = strings.Cut(segment, ";") // some servers take parameters off first
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// String is what may be shown of a URL: no query, which may be a key.
func (l location) String() string {
	if l.url == nil {
		return "the URL"
	}
	return cut((&url.URL{Scheme: l.url.Scheme, Host: l.url.Host, Path: l.url.Path, RawPath: l.url.RawPath}).String())
}

// cut cuts what a caller gave for a message.
func cut(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}

// isStore says whether a scheme is that of a store, whose URLs are scheme://bucket/key.
func isStore(scheme string) bool { return scheme == "s3" || scheme == "gs" || scheme == "azblob" }

// A prefix is where an operator lets callers fetch and store.
type prefix struct {
	scheme, host, port string // host is "" for every bucket
	segments           []string
}

func parsePrefix(entry string) (prefix, error) {
	bad := func(why string) (prefix, error) {
		return prefix{}, fmt.Errorf("storage: allowed prefix %q: %s", cut(entry), why)
	}
	if scheme, ok := strings.CutSuffix(strings.ToLower(entry), "://"); ok && isStore(scheme) {
		return prefix{scheme: scheme}, nil
	}
	l, err := parse(entry)
	if err != nil {
		return bad(err.Error())
	}
	if strings.ContainsAny(entry, "?#") {
		return bad("a query or a fragment is not a part of a prefix")
	}
	p := prefixOf(l)
	switch p.scheme {
	case "https", "http":
	case "s3", "gs", "azblob":
		if p.port != "" {
			return bad("a bucket has no port")
		}
	case fileScheme:
		if !isPath(l.url.Path) {
			return bad("it is not the path of a folder")
		}
	default:
		return bad("the scheme is not https, http, s3, gs, azblob or file")
	}
	return p, nil
}

// prefixOf is the prefix that is the URL itself.
func prefixOf(l location) prefix {
	p := prefix{scheme: l.url.Scheme, host: hostOf(l.url), port: portOf(l.url)}
	path := strings.TrimPrefix(l.url.EscapedPath(), "/")
	if path == "" {
		return p
	}
	for segment := range strings.SplitSeq(path, "/") {
		if plain, err := url.PathUnescape(segment); err == nil {
			segment = plain
		}
		p.segments = append(p.segments, segment)
	}
	return p
}

// hostOf is a host as it is compared: in lower case, unless it is a bucket.
func hostOf(u *url.URL) string {
	if isStore(u.Scheme) {
		return u.Host
	}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	case u.Scheme == "http":
		return "80"
	}
	return ""
}

// allows says whether a prefix has a URL under it.
func allows(prefixes []prefix, l location) bool {
	at := prefixOf(l)
	return slices.ContainsFunc(prefixes, func(p prefix) bool { return p.has(at) })
}

func (p prefix) has(at prefix) bool {
	if p.scheme != at.scheme || p.host != "" && (p.host != at.host || p.port != at.port) {
		return false
	}
	n := len(p.segments)
	if n > 0 && p.segments[n-1] == "" { // the prefix ends in a slash: something follows
		return len(at.segments) >= n && slices.Equal(p.segments[:n-1], at.segments[:n-1])
	}
	return len(at.segments) >= n && slices.Equal(p.segments, at.segments[:n])
}
