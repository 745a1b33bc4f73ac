package proxy

import (
	"context"
	"embed"
	"net/http"
)

// The page of /api: no part of it comes from elsewhere.
//
//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load nothing but itself, and show what it has received.
const pagePolicy = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-src blob:; " +
	"object-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"

// pageRoutes are those of the page, which need their base path.
func (s *Server) pageRoutes() []route {
	if s.cfg.NoDocs {
		return nil
	}
	return []route{
		{path: "/api", get: pageFile("index.html", "text/html; charset=utf-8")},
		{path: "/api/", get: s.redirectPage(http.StatusPermanentRedirect)},
		{path: "/api/page.js", get: pageFile("page.js", "text/javascript; charset=utf-8")},
		{path: "/api/page.css", get: pageFile("page.css", "text/css; charset=utf-8")},
		{path: "/ui", get: s.redirectPage(http.StatusFound)},
	}
}

// pageFile answers with a file of the page.
func pageFile(name, contentType string) handler {
	return func(_ context.Context, r *request) response {
		body, err := pageFiles.ReadFile("page/" + name)
		if err != nil { // it is compiled in
			return failure(internalError(r.id))
		}
		return response{status: http.StatusOK, contentType: contentType, body: body, policy: pagePolicy}
	}
}

// redirectPage answers with where the page is.
func (s *Server) redirectPage(status int) handler {
	return func(_ context.Context, r *request) response {
		resp := plainStatus(status)
		resp.location = s.at(r) + "/api"
		return resp
	}
}
