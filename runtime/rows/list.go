package rows

import (
	"net/url"
	"path"
	"strings"
)

// objects are the objects of an input, held so that a million of them are some ten megabytes:
// the names in one piece, and where each ends. URLs have their names escaped, keys and patterns
// do not.
type objects struct {
	// base is the URL of the prefix, one that of the input if it is a single object; shown is
	// either of them for people, without a query, which may be a key.
	base  url.URL
	one   string
	shown string
	names []byte
	ends  []int
	sizes []int64
	size  int64
}

// newObjects returns the objects of a URL, none so far.
func newObjects(text string) (objects, error) {
	u, err := url.Parse(text)
	if err != nil { // which repeats the URL with its query
		return objects{}, invalid("input.url", "is no URL, which is scheme://bucket/key or scheme://bucket/prefix/")
	}
	o := objects{base: url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}}
	if o.isPrefix() && u.Scheme == "file" { // whose lists have paths that are as short as can be
		o.base.Path = strings.TrimSuffix(path.Clean(u.Path), "/") + "/"
	}
	o.shown = o.base.String()
	if !o.isPrefix() {
		o.one = text
	}
	return o, nil
}

func (o *objects) isPrefix() bool { return strings.HasSuffix(o.base.Path, "/") }

// split makes the folder of a single object the base, and returns the object's name.
func (o *objects) split() (name string) {
	o.base.Path, name = path.Split(o.base.Path)
	return name
}

// nameOf is the name below the prefix of an object that the store lists.
func (o *objects) nameOf(listed string) (name string, ok bool) {
	u, err := url.Parse(listed)
	if err != nil || u.Scheme != o.base.Scheme || u.Host != o.base.Host {
		return "", false
	}
	return strings.CutPrefix(u.Path, o.base.Path)
}

func (o *objects) add(name string, size int64) {
	o.names = append(o.names, name...)
	o.ends = append(o.ends, len(o.names))
	o.sizes = append(o.sizes, size)
	o.size += size
}

func (o *objects) len() int { return len(o.ends) }

// name is the name of an object below the prefix.
func (o *objects) name(i int) string {
	start := 0
	if i > 0 {
		start = o.ends[i-1]
	}
	return string(o.names[start:o.ends[i]])
}

// url is the URL of an object for the store, showing for people.
func (o *objects) url(i int) string {
	if o.one != "" {
		return o.one
	}
	return o.showing(i)
}

func (o *objects) showing(i int) string {
	u := o.base
	u.Path += o.name(i)
	return u.String()
}
