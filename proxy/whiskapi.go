package proxy

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// apiPath is what the paths of OpenWhisk's REST API are below.
const apiPath = "/api/v1/"

// An apiCall is one call of OpenWhisk's API by somebody who has a key.
type apiCall struct {
	*request
	caller     string // the namespace of the key
	collection whisk.Collection
	name       whisk.Name
	activation string // its id
	given      apiQuery
}

// An apiHandler answers one kind of call.
type apiHandler func(ctx context.Context, c *apiCall) (response, error)

// An endpoint says what answers the methods of one path of the API; nil is nothing.
type endpoint struct{ get, put, post, del apiHandler }

// apiRoutes are the routes of OpenWhisk's API, the narrower ones first. They are at the
// root, whatever the base path of DEEPaaS is.
func (s *Server) apiRoutes() []route {
	return []route{
		{path: strings.TrimSuffix(apiPath, "/"), all: s.whiskAPI, always: true, anySize: true},
		{path: webPath, prefix: true, all: s.webGateway, always: true, anySize: true},
		{path: apiPath, prefix: true, all: s.whiskAPI, always: true, anySize: true},
	}
}

// whiskAPI answers what is below /api/v1: OpenWhisk's REST API, as wsk and
// openwhisk-client-go call it (apache/openwhisk, core/controller: RestAPIs.scala). There
// are no CORS headers, so that no page of a browser can use it, and a request that another
// site's page has made is refused: on a machine of one's own everybody knows the key.
func (s *Server) whiskAPI(ctx context.Context, r *request) response {
	ctx, back := r.send(ctx)
	defer back()
	resp, err := s.callAPI(ctx, r)
	if err == nil {
		return resp
	}
	e := asError(err, r.id)
	if e.Code == actions.Internal {
		s.log.ErrorContext(ctx, "request", "path", short(r.path), "request_id", r.id, "error", err.Error())
	}
	return apiFailure(e, r.id)
}

func (s *Server) callAPI(ctx context.Context, r *request) (response, error) {
	switch {
	case s.cfg.Controller == nil && s.cfg.Elsewhere != "":
		return response{}, actions.Errorf(actions.NotFound, "there is no OpenWhisk API here: %s", s.cfg.Elsewhere)
	case s.cfg.Controller == nil:
		return response{}, actions.Errorf(actions.NotFound, "there is no OpenWhisk API here: 'deepfn serve' has it on "+
			"127.0.0.1, and with --api-key UUID:KEY on other addresses, unless --openwhisk-api is false")
	case crossSite(r):
		return response{}, actions.Errorf(actions.Forbidden, otherSite)
	case s.draining.Load():
		s.metrics.refused("draining")
		return response{}, drainingError()
	case strings.TrimSuffix(r.path, "/")+"/" == apiPath:
		return s.dispatch(ctx, &apiCall{request: r}, endpoint{get: s.apiVersion})
	}
	caller, err := s.callerOf(r)
	if err != nil {
		return response{}, err
	}
	c := &apiCall{request: r, caller: caller}
	ep, err := s.endpoint(c)
	if err != nil {
		return response{}, err
	}
	if c.given, err = parseAPIQuery(r.query); err != nil {
		return response{}, err
	}
	return s.dispatch(ctx, c, ep)
}

// dispatch calls what answers the method of a call.
func (s *Server) dispatch(ctx context.Context, c *apiCall, ep endpoint) (response, error) {
	var do apiHandler
	switch c.method {
	case http.MethodGet, http.MethodHead:
		do = ep.get
	case http.MethodPut:
		do = ep.put
	case http.MethodPost:
		do = ep.post
	case http.MethodDelete:
		do = ep.del
	}
	switch {
	case do == nil:
		return apiMethodNotAllowed(c, ep), nil
	case c.refused != nil:
		s.metrics.refused(string(c.refused.Code))
		return response{}, c.refused
	}
	return do(ctx, c)
}

// callerOf returns the namespace of the key that a request has in its header.
func (s *Server) callerOf(r *request) (string, error) {
	key := r.headerText("Authorization")
	if key == "" {
		return "", actions.Errorf(actions.Unauthorized,
			"The resource requires authentication, which was not supplied with the request")
	}
	wrong := actions.Errorf(actions.Unauthorized, "The supplied authentication is invalid")
	scheme, encoded, _ := strings.Cut(key, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", wrong
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok {
		return "", wrong
	}
	namespace, err := s.cfg.Controller.Authenticate(user, password)
	if actions.CodeOf(err) == actions.Unauthorized {
		return "", wrong
	}
	return namespace, err
}

// endpoint finds what answers a path, and notes what it names:
//
//	/api/v1/namespaces
//	/api/v1/namespaces/NS/limits
//	/api/v1/namespaces/NS/COLLECTION
//	/api/v1/namespaces/NS/COLLECTION/NAME
//	/api/v1/namespaces/NS/actions/PACKAGE/
//	/api/v1/namespaces/NS/actions/PACKAGE/NAME
//	/api/v1/namespaces/NS/activations/ID[/result|/logs]
func (s *Server) endpoint(c *apiCall) (endpoint, error) {
	below := strings.Split(strings.TrimPrefix(c.path, apiPath), "/")
	slash := len(below) > 1 && below[len(below)-1] == ""
	if slash {
		below = below[:len(below)-1]
	}
	switch {
	case below[0] != "namespaces" || len(below) == 2:
		return endpoint{}, nothingThere()
	case len(below) == 1:
		return endpoint{get: s.apiNamespaces}, nil
	}
	namespace := below[1]
	switch err := whisk.CheckSegment(namespace); {
	case namespace == whisk.Own:
		namespace = c.caller
	case err != nil:
		return endpoint{}, actions.Errorf(actions.Invalid, "The namespace contains illegal characters.")
	}
	c.name.Namespace, c.collection = namespace, whisk.Collection(below[2])
	switch names := below[3:]; c.collection {
	case "limits":
		if len(names) == 0 {
			return endpoint{get: s.apiLimits}, c.ownOnly()
		}
		return endpoint{}, nothingThere()
	case "activations":
		return s.activationEndpoint(c, names, slash)
	case whisk.Actions, whisk.Triggers, whisk.Rules, whisk.Packages:
		return s.entityEndpoint(c, names, slash)
	default:
		return endpoint{}, nothingThere()
	}
}

// ownOnly refuses what is of another namespace than the caller's.
func (c *apiCall) ownOnly() error {
	if c.name.Namespace == c.caller {
		return nil
	}
	return actions.Errorf(actions.Forbidden, "The supplied authentication is not authorized to access '%s'.",
		c.name.Namespace+"/"+string(c.collection))
}

// apiVersion answers GET /api/v1.
func (s *Server) apiVersion(context.Context, *apiCall) (response, error) {
	return jsonResponse(http.StatusOK, struct {
		Description string `json:"description"`
		Version     string `json:"api_version"`
		Path        string `json:"api_version_path"`
		Build       string `json:"build"`
		Number      string `json:"buildno"`
	}{"OpenWhisk API", "1.0.0", "v1", "deepfn " + s.cfg.Version, s.cfg.Version}), nil
}

// apiNamespaces answers GET /api/v1/namespaces.
func (s *Server) apiNamespaces(_ context.Context, c *apiCall) (response, error) {
	return jsonResponse(http.StatusOK, []string{c.caller}), nil
}

// apiLimits answers GET /api/v1/namespaces/NS/limits.
func (s *Server) apiLimits(context.Context, *apiCall) (response, error) {
	return jsonResponse(http.StatusOK, s.cfg.Controller.Limits()), nil
}

// whiskInfo answers GET / where DEEPaaS' document is not: below a base path.
func (s *Server) whiskInfo(context.Context, *request) response {
	return jsonResponse(http.StatusOK, s.cfg.Controller.Info())
}
