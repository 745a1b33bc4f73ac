package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// defaultTimeout is how long one try to send may take.
const defaultTimeout = 10 * time.Second

// A destination is where spans are sent, and how, by the variables of the specification
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). Those that have _TRACES_ in
// their name win.
type destination struct {
	url     string
	header  http.Header
	timeout time.Duration
	gzip    bool
	tls     *tls.Config // nil for the system's
}

// readDestination reads the variables; ok is false when they turn the sending off, or do not
// turn it on. The error is an *actions.Error Invalid that names the variable.
func readDestination(getenv func(string) string) (d destination, ok bool, err error) {
	if off, err := strconv.ParseBool(getenv("OTEL_SDK_DISABLED")); err == nil && off {
		return d, false, nil
	}
	v := variables{getenv: getenv}
	d.url = v.endpoint()
	if d.url == "" && v.err == nil {
		return d, false, nil
	}
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "", "otlp":
	case "none":
		return d, false, nil
	default:
		v.fail("OTEL_TRACES_EXPORTER", exporter, "otlp or none")
	}
	if name, protocol := v.find("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		v.fail(name, protocol, "http/protobuf, which collectors take on port 4318")
	}
	d.header, d.timeout, d.gzip, d.tls = v.headers(), v.timeout(), v.compression(), v.tlsConfig()
	return d, v.err == nil, v.err
}

// variables reads variables, and keeps the first fault.
type variables struct {
	getenv func(string) string
	err    error
}

// find returns a variable of the exporter, its name first.
func (v *variables) find(what string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + what
	if value = v.getenv(name); value != "" {
		return name, value
	}
	name = "OTEL_EXPORTER_OTLP_" + what
	return name, v.getenv(name)
}

// fail notes a fault; the value is not shown whole, and not at all where it may be a secret.
func (v *variables) fail(name, value, want string) {
	if v.err == nil {
		v.err = actions.Errorf(actions.Invalid, "%s=%.100s: want %s", name, value, want)
	}
}

// endpoint is the URL of the traces, empty when there is none.
func (v *variables) endpoint() string {
	name, value := v.find("ENDPOINT")
	if value == "" {
		return ""
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		v.fail(name, value, "a URL such as http://127.0.0.1:4318")
		return ""
	}
	if name == endpointName {
		u = u.JoinPath("v1", "traces")
	}
	return u.String()
}

// headers are "name=value,name=value", each percent-encoded.
func (v *variables) headers() http.Header {
	header := http.Header{}
	name, list := v.find("HEADERS")
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, text, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(text))
		if key = strings.TrimSpace(key); !ok || err != nil || !isToken(key) || strings.ContainsAny(value, "\r\n\x00") {
			v.fail(name, "…", "NAME=VALUE,NAME=VALUE, with % before what a URL has it before")
			continue
		}
		header.Set(key, value)
	}
	return header
}

// isToken says whether a text may be the name of a header.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// timeout is in milliseconds.
func (v *variables) timeout() time.Duration {
	name, text := v.find("TIMEOUT")
	if text == "" {
		return defaultTimeout
	}
	ms, err := strconv.Atoi(text)
	if err != nil || ms <= 0 || ms > int(time.Hour/time.Millisecond) {
		v.fail(name, text, "milliseconds, such as 10000")
	}
	return time.Duration(ms) * time.Millisecond
}

func (v *variables) compression() bool {
	name, text := v.find("COMPRESSION")
	switch text {
	case "gzip":
		return true
	case "", "none":
	default:
		v.fail(name, text, "gzip or none")
	}
	return false
}

// tlsConfig is nil unless there is a file of an authority's or of our own certificate.
func (v *variables) tlsConfig() *tls.Config {
	authorityName, authority := v.find("CERTIFICATE")
	certificateName, certificate := v.find("CLIENT_CERTIFICATE")
	_, key := v.find("CLIENT_KEY")
	if authority == "" && certificate == "" {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if authority != "" {
		pem, err := os.ReadFile(authority) //nolint:gosec // the user's own choice
		cfg.RootCAs = x509.NewCertPool()
		if err != nil || !cfg.RootCAs.AppendCertsFromPEM(pem) {
			v.fail(authorityName, authority, "a file of certificates in PEM")
		}
	}
	if certificate != "" {
		own, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			v.fail(certificateName, certificate, "a file of a certificate in PEM, and one of its key in CLIENT_KEY")
		}
		cfg.Certificates = []tls.Certificate{own}
	}
	return cfg
}
