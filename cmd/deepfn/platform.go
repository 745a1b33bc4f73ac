package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/proxy"
	"github.com/deepfn/deepfn/runtime/storage"
)

// storageSettings say what callers may name by URL.
type storageSettings struct {
	allow   []string
	timeout time.Duration
}

func (r *storageSettings) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&r.allow, "allow-url", nil, "prefix of URLs that callers may have fetched, and stored to, though they are no public https:\n"+
		"http://minio.local:9000/in/, s3://bucket/ (DEEPFN_ALLOW_URL, separated by spaces)")
	f.DurationVar(&r.timeout, "fetch-timeout", time.Minute, "most time for one argument or result by URL (DEEPFN_FETCH_TIMEOUT)")
}

// resolve fills in from the environment what no flag has set.
func (srv *server) resolveStorage() error {
	r := &srv.storage
	if !srv.flags.Changed("allow-url") {
		r.allow = strings.Fields(srv.getenv("DEEPFN_ALLOW_URL"))
	}
	if err := srv.duration(srv.flags, "fetch-timeout", "DEEPFN_FETCH_TIMEOUT", &r.timeout); err != nil {
		return err
	}
	if r.timeout <= 0 {
		return usageError{errors.New("--fetch-timeout wants more than 0")}
	}
	return nil
}

// open returns what arguments are fetched with. It takes as many bytes as the body of a
// request may have: more than that no model gets.
func (r *storageSettings) open(maxBody int64, log *slog.Logger) (*storage.Storage, error) {
	s, err := storage.New(storage.Config{Allow: r.allow, MaxBytes: maxBody, Timeout: r.timeout, Log: log})
	if err != nil {
		return nil, usageError{fmt.Errorf("--allow-url: %w", err)}
	}
	return s, nil
}

// entry reads what OpenWhisk's runtimes for Knative are told by their environment
// (apache/openwhisk, docs/single_entrypoint_proxy_contract.md).
func (srv *server) entry(log *slog.Logger) (proxy.Entry, error) {
	platform := srv.getenv("__OW_RUNTIME_PLATFORM")
	switch platform {
	case "", "openwhisk", "knative":
	default:
		return proxy.Entry{}, usageError{fmt.Errorf("__OW_RUNTIME_PLATFORM=%s: want openwhisk or knative", platform)}
	}
	e := proxy.Entry{
		Code: srv.getenv("__OW_ACTION_CODE"), Name: srv.getenv("__OW_ACTION_NAME"), Main: srv.getenv("__OW_ACTION_MAIN"),
		Public: platform == "knative",
	}
	for name, value := range map[string]*bool{"__OW_ACTION_BINARY": &e.Binary, "__OW_ACTION_RAW": &e.Raw} {
		text := srv.getenv(name)
		if text == "" {
			continue
		}
		var err error
		if *value, err = strconv.ParseBool(text); err != nil {
			return e, usageError{fmt.Errorf("%s=%s: want true or false", name, text)}
		}
	}
	// "[get,post]", not quite JSON.
	for method := range strings.FieldsFuncSeq(srv.getenv("__OW_HTTP_METHODS"), func(r rune) bool {
		return strings.ContainsRune(`[]", `, r)
	}) {
		word := strings.ToUpper(method)
		if !slices.Contains(httpMethods(), word) {
			return e, usageError{fmt.Errorf("__OW_HTTP_METHODS=%s: %q is no method; want some of %s, such as [get,post]",
				srv.getenv("__OW_HTTP_METHODS"), method, strings.Join(httpMethods(), ", "))}
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
