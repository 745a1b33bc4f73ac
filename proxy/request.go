package proxy

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"
)

// pathOf returns the decoded and cleaned path. One that would become another by that, with
// dot segments or encoded slashes, is left as it was sent, which is no route's: whoever
// lets only a part of the paths through, in front of this server, has not decoded it either.
func pathOf(uri *fasthttp.URI) string {
	sent := uri.PathOriginal()
	plain := strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/../", "%2F", "/../", "%5c", "/../", "%5C", "/../")
	if bytes.Contains(sent, []byte("/.")) || bytes.IndexByte(sent, '%') >= 0 {
		for segment := range strings.SplitSeq(plain.Replace(string(sent)), "/") {
			if segment == "." || segment == ".." {
				return string(sent)
			}
		}
	}
	return intern(uri.Path())
}

// request makes a request of what the header says.
func (s *Server) request(fc *fasthttp.RequestCtx, r *request) {
	h := &fc.Request.Header
	*r = request{
		bodies: s.bodies,
		method: intern(fc.Method()), path: pathOf(fc.URI()),
		query:       string(fc.URI().QueryString()),
		contentType: intern(h.ContentType()),
		accept:      intern(h.Peek("Accept")),
		id:          cleanID(string(h.Peek("X-Request-Id"))),
		peek:        h,
		loopback:    s.loopback.Load(),
	}
	if r.id == "" {
		r.id = s.newID()
	}
	if strings.HasPrefix(r.path, webPath) {
		r.sent = string(fc.URI().PathOriginal())
	}
	r.header = func(name string, each func(name, value string)) {
		if name != "" {
			for _, value := range h.PeekAll(name) {
				each(name, string(value))
			}
			return
		}
		for name, value := range h.All() {
			each(string(name), string(value))
		}
	}
}
