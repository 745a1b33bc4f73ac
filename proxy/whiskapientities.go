package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/actions/whisk"
)

// entityEndpoint finds what answers a path of a collection.
func (s *Server) entityEndpoint(c *apiCall, names []string, slash bool) (endpoint, error) {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return endpoint{}, err
		}
	}
	packaged := c.collection == whisk.Actions
	switch {
	case len(names) == 0:
		return endpoint{get: s.apiList}, nil
	case len(names) == 1 && slash && packaged:
		c.name.Package = names[0]
		return endpoint{get: s.apiList}, nil
	case slash:
		return endpoint{}, nothingThere()
	case len(names) == 1:
		c.name.Entity = names[0]
	case len(names) == 2 && packaged:
		c.name.Package, c.name.Entity = names[0], names[1]
	default:
		return endpoint{}, nothingThere()
	}
	ep := endpoint{get: s.apiEntity, put: s.apiPut, del: s.apiDelete}
	switch c.collection {
	case whisk.Actions:
		ep.post = s.apiInvoke
	case whisk.Triggers:
		ep.post = s.apiFire
	case whisk.Rules:
		ep.post = s.apiSetRule
	case whisk.Packages:
		if c.name.Entity == "refresh" {
			ep.post = s.apiRefresh
		}
	}
	return ep, nil
}

// checkName refuses, in the API's words, what cannot be a name.
func checkName(name string) error {
	if whisk.CheckSegment(name) == nil {
		return nil
	}
	const longest = 256
	if n := len([]rune(name)); n > longest {
		return actions.Errorf(actions.Invalid, "Name segement longer than allowed: %d > %d.", n, longest)
	}
	return actions.Errorf(actions.Invalid, "The name of the entity contains illegal characters.")
}

// apiList answers GET of a collection, or of the actions of a package.
func (s *Server) apiList(ctx context.Context, c *apiCall) (response, error) {
	page, err := c.given.page(c.collection)
	if err != nil {
		return response{}, err
	}
	list, err := s.cfg.Controller.List(ctx, c.caller, c.collection, c.name, page)
	return listing(c.collection, page, list), err
}

// listing answers with a list, or the number of its entries.
func listing(collection whisk.Collection, page whisk.Page, list whisk.Listing) response {
	if page.Count {
		return jsonResponse(http.StatusOK, map[whisk.Collection]int{collection: list.Count})
	}
	if list.Items == nil {
		list.Items = []any{}
	}
	return jsonResponse(http.StatusOK, list.Items)
}

// apiEntity answers GET of an entity.
func (s *Server) apiEntity(ctx context.Context, c *apiCall) (response, error) {
	code, err := c.given.flag("code", true)
	if err != nil {
		return response{}, err
	}
	doc, err := s.cfg.Controller.Entity(ctx, c.caller, c.collection, c.name, code)
	return jsonResponse(http.StatusOK, doc), err
}

// apiPut answers PUT of an entity.
func (s *Server) apiPut(ctx context.Context, c *apiCall) (response, error) {
	overwrite, err := c.given.flag("overwrite", false)
	if err != nil {
		return response{}, err
	}
	body, err := c.object()
	if err != nil {
		return response{}, err
	}
	if body == nil {
		return response{}, malformedContent("the body is empty, it has to be a JSON object")
	}
	doc, err := s.cfg.Controller.Put(ctx, c.caller, c.collection, c.name, body, overwrite)
	return jsonResponse(http.StatusOK, doc), err
}

// apiDelete answers DELETE of an entity.
func (s *Server) apiDelete(ctx context.Context, c *apiCall) (response, error) {
	force, err := c.given.flag("force", false)
	if err != nil {
		return response{}, err
	}
	doc, err := s.cfg.Controller.Delete(ctx, c.caller, c.collection, c.name, force)
	return jsonResponse(http.StatusOK, doc), err
}

// apiSetRule answers POST of a rule, which makes it active or inactive.
func (s *Server) apiSetRule(ctx context.Context, c *apiCall) (response, error) {
	body, err := c.object()
	if err != nil {
		return response{}, err
	}
	var asked struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(body, &asked); err != nil || asked.Status != whisk.Active && asked.Status != whisk.Inactive {
		return response{}, malformedContent(fmt.Sprintf("the status of a rule is '%s' or '%s'", whisk.Active, whisk.Inactive))
	}
	if err := s.cfg.Controller.SetRule(ctx, c.caller, c.name, asked.Status); err != nil {
		return response{}, err
	}
	return response{status: http.StatusOK}, nil
}

// apiRefresh answers POST packages/refresh: the packages that the server provides are
// always as they should be.
func (s *Server) apiRefresh(context.Context, *apiCall) (response, error) {
	none := []string{}
	return jsonResponse(http.StatusOK, map[string][]string{"added": none, "updated": none, "deleted": none}), nil
}

// object returns the body of a call, which is a JSON object; nil when there is none. The
// type that it is labelled with is not looked at: curl calls all it sends a form.
func (c *apiCall) object() (json.RawMessage, error) {
	body := bytes.TrimSpace(c.body)
	if len(body) == 0 {
		return nil, nil
	}
	bad := scanMembers(body, -1, func(s *jsonscan.Scanner, _ []byte) bool { return s.Value() })
	switch {
	case bad == nil:
		return body, nil
	case bad.valid:
		return nil, malformedContent("JSON object expected")
	case bad.offset > 0:
		return nil, malformedContent(fmt.Sprintf("%s, at byte %d", bad.msg, bad.offset))
	}
	return nil, malformedContent(bad.msg)
}
