package relay

import (
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/deepfn/deepfn/proxy"
)

// Entry reads what OpenWhisk's runtimes for Knative are told by their environment
// (apache/openwhisk, docs/single_entrypoint_proxy_contract.md).
func Entry(getenv func(string) string, log *slog.Logger) (proxy.Entry, error) {
	platform := getenv("__OW_RUNTIME_PLATFORM")
	switch platform {
	case "", "openwhisk", "knative":
	default:
		return proxy.Entry{}, usagef("__OW_RUNTIME_PLATFORM=%s: want openwhisk or knative", platform)
	}
	e := proxy.Entry{
		Code: getenv("__OW_ACTION_CODE"), Name: getenv("__OW_ACTION_NAME"), Main: getenv("__OW_ACTION_MAIN"),
		Public: platform == "knative",
	}
	for name, value := range map[string]*bool{"__OW_ACTION_BINARY": &e.Binary, "__OW_ACTION_RAW": &e.Raw} {
		text := getenv(name)
		if text == "" {
			continue
		}
		var err error
		if *value, err = strconv.ParseBool(text); err != nil {
			return e, usagef("%s=%s: want true or false", name, text)
		}
	}
	// "[get,post]", not quite JSON.
	for method := range strings.FieldsFuncSeq(getenv("__OW_HTTP_METHODS"), func(r rune) bool {
		return strings.ContainsRune(`[]", `, r)
	}) {
		word := strings.ToUpper(method)
		if !slices.Contains(httpMethods(), word) {
			return e, usagef("__OW_HTTP_METHODS=%s: %q is no method; want some of %s, such as [get,post]",
				getenv("__OW_HTTP_METHODS"), method, strings.Join(httpMethods(), ", "))
		}
		e.Methods = append(e.Methods, word)
	}
	if len(e.Methods) > 0 && !slices.Contains(e.Methods, http.MethodPost) {
		log.Warn("POST does not run the function at /: __OW_HTTP_METHODS does not name it", "methods", strings.Join(e.Methods, ","))
	}
	return e, nil
}

// httpMethods are the methods that may run a function at the single entrypoint.
func httpMethods() []string {
	return []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, http.MethodOptions}
}
