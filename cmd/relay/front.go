// Package relay is a server without models of its own: the front of deepfn with the pool of
// a node runtime on the same machine behind it. The commands deepfn and deepfn-relay share
// it, and with it what all fronts are told by flags and the environment.
package relay

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// DefaultListen is where a server of one's own listens. The images set DEEPFN_LISTEN to all
// addresses.
const DefaultListen = "127.0.0.1:8080"

// maxMaxBody bounds --max-body: shared memory of that size is reserved for each worker,
// and taken when it is used.
const maxMaxBody = 16 << 30

// A UsageError is a fault of the command line or the environment.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// A Front is what a front is told whatever stands behind it, each by a flag with a variable
// of the environment behind it. A flag wins over its variable.
type Front struct {
	// Listen is HOST:PORT.
	Listen string
	// MaxBody is the most bytes of a request's body.
	MaxBody int64
	// PayloadLimit is OpenWhisk's limit of arguments and of a result in bytes; zero is none.
	PayloadLimit int64
	// Grace is the time for requests in flight after the end has begun.
	Grace time.Duration
	// BasePath is the path that the DEEPaaS API is below, "/a/b", or empty.
	BasePath string
	// Sink is where events go that are no answer to a request.
	Sink Sink
	// Events is about the events that are taken.
	Events Events
	// Predict, Train, Docs and Debug say which endpoints there are.
	Predict, Train, Docs, Debug bool
}

// AddListenFlag adds the flag of the address alone.
func (fr *Front) AddListenFlag(f *pflag.FlagSet) {
	f.StringVar(&fr.Listen, "listen", "", "address to listen on (DEEPFN_LISTEN; default "+DefaultListen+"; PORT replaces the port)")
}

// AddFlags adds all flags of a front.
func (fr *Front) AddFlags(f *pflag.FlagSet) {
	fr.AddListenFlag(f)
	f.Int64Var(&fr.MaxBody, "max-body", 48<<20, "bytes of a request's body (DEEPFN_MAX_BODY)")
	f.Int64Var(&fr.PayloadLimit, "payload-limit", 1<<20, "bytes of the arguments and of the result of an activation of OpenWhisk; 0: no limit (DEEPFN_PAYLOAD_LIMIT)")
	f.DurationVar(&fr.Grace, "grace", 30*time.Second, "time for requests in flight after SIGTERM (DEEPFN_GRACE)")
	f.StringVar(&fr.BasePath, "base-path", "", "path below which the DEEPaaS API is served, such as /models/cats (DEEPFN_BASE_PATH)")
	fr.Sink.addFlags(f)
	fr.Events.addFlags(f)
	f.BoolVar(&fr.Predict, "predict-endpoint", true, "answer predictions of the DEEPaaS API; false: 402 (DEEPFN_PREDICT_ENDPOINT)")
	f.BoolVar(&fr.Train, "train-endpoint", true, "take trainings of the DEEPaaS API; false: 402 (DEEPFN_TRAIN_ENDPOINT)")
	f.BoolVar(&fr.Docs, "doc-endpoint", true, "serve the page at /api (DEEPFN_DOC_ENDPOINT)")
	f.BoolVar(&fr.Debug, "debug-endpoint", false, "show what models print at /v2/debug/ (DEEPFN_DEBUG_ENDPOINT)")
}

// Resolve fills in from the environment what no flag has set, and checks it. The error is a
// UsageError.
func (fr *Front) Resolve(f *pflag.FlagSet, getenv func(string) string) error {
	if err := fr.ResolveListen(f, getenv); err != nil {
		return err
	}
	if err := number(f, getenv, "max-body", "DEEPFN_MAX_BODY", &fr.MaxBody); err != nil {
		return err
	}
	if err := number(f, getenv, "payload-limit", "DEEPFN_PAYLOAD_LIMIT", &fr.PayloadLimit); err != nil {
		return err
	}
	if err := duration(f, getenv, "grace", "DEEPFN_GRACE", &fr.Grace); err != nil {
		return err
	}
	switch {
	case fr.MaxBody < 1 || fr.MaxBody > maxMaxBody:
		return usagef("--max-body %d: want 1 to %d bytes", fr.MaxBody, int64(maxMaxBody))
	case fr.PayloadLimit < 0:
		return UsageError{errors.New("--payload-limit wants 0 or more")}
	case fr.Grace < 0:
		return UsageError{errors.New("--grace wants 0 or more")}
	}
	return errors.Join(fr.resolveEndpoints(f, getenv), fr.resolveBasePath(f, getenv), fr.Sink.resolve(f, getenv), fr.Events.resolve(f, getenv))
}

// ResolveListen finds the address from the flag, DEEPFN_LISTEN and PORT.
func (fr *Front) ResolveListen(f *pflag.FlagSet, getenv func(string) string) error {
	if !f.Changed("listen") {
		fr.Listen = getenv("DEEPFN_LISTEN")
	}
	if fr.Listen == "" {
		fr.Listen = DefaultListen
	}
	if port := getenv("PORT"); port != "" && !f.Changed("listen") {
		host, _, err := net.SplitHostPort(fr.Listen)
		if err != nil {
			return usagef("DEEPFN_LISTEN=%s: %w", fr.Listen, err)
		}
		fr.Listen = net.JoinHostPort(host, port)
	}
	return nil
}

// resolveEndpoints fills in from the environment which routes there are.
func (fr *Front) resolveEndpoints(f *pflag.FlagSet, getenv func(string) string) error {
	for _, v := range []struct {
		flag  string
		value *bool
	}{
		{"predict-endpoint", &fr.Predict},
		{"train-endpoint", &fr.Train},
		{"doc-endpoint", &fr.Docs},
		{"debug-endpoint", &fr.Debug},
	} {
		name := "DEEPFN_" + strings.ToUpper(strings.ReplaceAll(v.flag, "-", "_"))
		text := getenv(name)
		if text == "" || f.Changed(v.flag) {
			continue
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			return usagef("%s=%s: want true or false", name, text)
		}
		*v.value = on
	}
	return nil
}

// resolveBasePath makes the path one that routes can begin with.
func (fr *Front) resolveBasePath(f *pflag.FlagSet, getenv func(string) string) error {
	if !f.Changed("base-path") {
		fr.BasePath = getenv("DEEPFN_BASE_PATH")
	}
	if fr.BasePath = strings.Trim(fr.BasePath, "/"); fr.BasePath == "" {
		return nil
	}
	fr.BasePath = "/" + fr.BasePath
	for segment := range strings.SplitSeq(fr.BasePath[1:], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "?#%{}\\ ") {
			return usagef("--base-path %s: want names between slashes, such as /models/cats", fr.BasePath)
		}
	}
	return nil
}

// number reads a number from the environment variable unless the flag was given.
func number(f *pflag.FlagSet, getenv func(string) string, flag, name string, value *int64) error {
	v := getenv(name)
	if v == "" || f.Changed(flag) {
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return usagef("%s=%s: want a number of bytes", name, v)
	}
	*value = n
	return nil
}

// duration reads a duration from the environment variable unless the flag was given.
func duration(f *pflag.FlagSet, getenv func(string) string, flag, name string, value *time.Duration) error {
	v := getenv(name)
	if v == "" || f.Changed(flag) {
		return nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return usagef("%s=%s: want a duration such as 10m; %w", name, strings.TrimSpace(v), err)
	}
	*value = d
	return nil
}

// GraceOf says in the front's words how long requests in flight may take: there, zero means
// the default.
func GraceOf(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
