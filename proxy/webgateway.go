package proxy

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// webPath is what the paths of web actions are below.
const webPath = apiPath + "web/"

// webMethods are the methods of web actions.
const webMethods = "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH"

// A webVisit is one request to a web action of OpenWhisk's API.
type webVisit struct {
	*request
	name      whisk.Name
	extension string // ".http" without one
	rest      string // of the path, as it was sent
	user      string // the namespace of the caller's key, "" without one
	action    whisk.Action
	found     bool // there is the action
	raw       bool // the action takes requests as they are
}

// webGateway answers what is below /api/v1/web: the caller's request becomes the arguments
// of an action, and its result the answer, by the rules of apache/openwhisk
// (core/controller: WebActions.scala). No key is needed unless the action wants one, and
// pages of every site may ask, as the answers' CORS headers say.
func (s *Server) webGateway(ctx context.Context, r *request) response {
	ctx, back := r.send(ctx)
	defer back()
	v := &webVisit{request: r}
	resp, err := s.visit(ctx, v)
	if err != nil {
		e := asError(err, r.id)
		if e.Code == actions.Internal {
			s.log.ErrorContext(ctx, "request", "path", short(r.path), "request_id", r.id, "error", err.Error())
		}
		resp = apiFailure(e, r.id)
	}
	if v.found && !v.isTrue("web-custom-options") {
		v.allowOrigins(&resp)
	}
	return resp
}

func (s *Server) visit(ctx context.Context, v *webVisit) (response, error) {
	switch {
	case s.cfg.Controller == nil:
		return s.callAPI(ctx, v.request) // which says why
	case s.draining.Load():
		s.metrics.refused("draining")
		return response{}, drainingError()
	case !slices.Contains(strings.Split(webMethods, ", "), v.method):
		resp := jsonResponse(http.StatusMethodNotAllowed, apiError{"HTTP method not allowed, supported methods: " + webMethods, v.id})
		resp.allow = webMethods
		return resp, nil
	}
	if err := s.findWeb(ctx, v); err != nil {
		return response{}, err
	}
	if err := s.checkPayload(v.request); err != nil {
		return response{}, err
	}
	custom := v.isTrue("web-custom-options")
	if v.method == http.MethodOptions && !custom {
		return response{status: http.StatusOK}, nil
	}
	if (v.method != http.MethodOptions || !custom) && !v.authorized() {
		return response{}, actions.Errorf(actions.Unauthorized,
			"The resource requires authentication, which was not supplied with the request")
	}
	v.raw = v.isTrue("raw-http")
	args, err := v.arguments()
	if err != nil {
		return response{}, err
	}
	return s.activateWeb(ctx, v, args)
}

// findWeb finds the action that a path names, /NAMESPACE/PACKAGE/NAME[.EXTENSION][/REST],
// and who asks.
func (s *Server) findWeb(ctx context.Context, v *webVisit) error {
	sent := v.sent
	if sent == "" {
		sent = v.path
	}
	parts := strings.SplitN(strings.TrimPrefix(sent, webPath), "/", 4)
	if len(parts) < 3 {
		return nothingThere()
	}
	if len(parts) == 4 {
		v.rest = "/" + parts[3]
	}
	names := parts[:3]
	for i, name := range names {
		plain, err := url.PathUnescape(name)
		if err != nil || whisk.CheckSegment(plain) != nil {
			return nothingThere()
		}
		names[i] = plain
	}
	v.extension = ".http"
	for _, extension := range []string{".http", ".json", ".html", ".svg", ".text"} {
		if base, ok := strings.CutSuffix(names[2], extension); ok && base != "" {
			names[2], v.extension = base, extension
			break
		}
	}
	v.name = whisk.Name{Namespace: names[0], Package: names[1], Entity: names[2]}
	if v.name.Package == whisk.NoPackage {
		v.name.Package = ""
	}
	v.user, _ = s.callerOf(v.request) // who has no key, or a wrong one, is nobody
	action, err := s.cfg.Controller.Web(ctx, v.name)
	if actions.CodeOf(err) == actions.NotFound {
		return actions.Errorf(actions.NotFound, "The requested resource does not exist.")
	}
	v.action, v.found = action, err == nil
	return err
}

// checkPayload refuses a body that is larger than the arguments of an action may be.
func (s *Server) checkPayload(r *request) error {
	if r.refused != nil {
		s.metrics.refused(string(r.refused.Code))
		return r.refused
	}
	return s.checkSize(r.body)
}

// isTrue says whether an annotation of the action is true.
func (v *webVisit) isTrue(annotation string) bool {
	return string(v.action.Annotations.Lookup(annotation)) == "true"
}

// authorized says whether the caller has what the annotation require-whisk-auth asks for:
// any key, or its value in a header.
func (v *webVisit) authorized() bool {
	wanted := v.action.Annotations.Lookup("require-whisk-auth")
	switch {
	case len(wanted) == 0 || string(wanted) == "false":
		return true
	case string(wanted) == "true":
		return v.user != ""
	case wanted[0] != '"' && wanted[0] != '-' && (wanted[0] < '0' || wanted[0] > '9'):
		return false
	}
	secret := string(wanted)
	if wanted[0] == '"' {
		secret = jsonText(wanted)
	}
	given := false
	if v.header != nil {
		v.header("X-Require-Whisk-Auth", func(_, value string) {
			given = subtle.ConstantTimeCompare([]byte(value), []byte(secret)) == 1
		})
	}
	return given
}

// allowOrigins adds the headers by which pages of other sites may read the answer. What the
// action itself says is added to, as OpenWhisk does.
func (v *webVisit) allowOrigins(resp *response) {
	asked := ""
	if v.header != nil {
		v.header("Access-Control-Request-Headers", func(_, value string) { asked = value })
	}
	addCORS(resp, asked)
}

// addCORS adds the headers of web actions by which pages of other sites may ask, unless
// the answer has some of its own.
func addCORS(resp *response, asked string) {
	if resp.header == nil {
		resp.header = make(http.Header)
	}
	if asked == "" || strings.ContainsAny(asked, "\r\n") {
		asked = "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent"
	}
	for _, h := range [][2]string{
		{"Access-Control-Allow-Origin", "*"},
		{"Access-Control-Allow-Methods", webMethods},
		{"Access-Control-Allow-Headers", asked},
	} {
		if resp.header.Get(h[0]) == "" {
			resp.header.Set(h[0], h[1])
		}
	}
}

// activateWeb runs the action in the name of its owner, and answers with its result.
func (s *Server) activateWeb(ctx context.Context, v *webVisit, args json.RawMessage) (response, error) {
	outcome, err := s.cfg.Controller.Invoke(ctx, v.name.Namespace, v.name, whisk.Invocation{Args: args, Blocking: true})
	if err != nil {
		return response{}, err
	}
	resp := v.answer(&outcome)
	if resp.header == nil {
		resp.header = make(http.Header)
	}
	resp.header.Set("X-Openwhisk-Activation-Id", outcome.Activation.ID)
	return resp, nil
}
