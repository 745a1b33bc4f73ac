package telemetry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// environment returns the variables of pairs, the last of a name.
func environment(pairs ...string) func(string) string {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return values[name] }
}

func TestReadDestination(t *testing.T) {
	const url, otlp = "http://127.0.0.1:4318/v1/traces", "OTEL_EXPORTER_OTLP_"
	type result struct {
		URL     string
		Header  http.Header
		Timeout time.Duration
		Gzip    bool
	}
	plain := result{url, http.Header{}, 10 * time.Second, false}
	for _, tt := range []struct {
		name string
		env  []string // beside an endpoint
		want result   // without a URL: off
		bad  string   // the variable that the error names
	}{
		{"an endpoint", nil, plain, ""},
		{"none", []string{endpointName, ""}, result{}, ""},
		{"with a path", []string{endpointName, "https://collector/x/"}, result{"https://collector/x/v1/traces", http.Header{}, 10 * time.Second, false}, ""},
		{"of traces", []string{otlp + "TRACES_ENDPOINT", "https://collector/x"}, result{"https://collector/x", http.Header{}, 10 * time.Second, false}, ""},
		{"disabled", []string{"OTEL_SDK_DISABLED", "true"}, result{}, ""},
		{"not disabled", []string{"OTEL_SDK_DISABLED", "false"}, plain, ""},
		{"no exporter", []string{"OTEL_TRACES_EXPORTER", "none"}, result{}, ""},
		{"no exporter, for a bad endpoint", []string{"OTEL_TRACES_EXPORTER", "none", endpointName, "x"}, result{}, ""},
		{"our exporter", []string{"OTEL_TRACES_EXPORTER", "otlp"}, plain, ""},
		{"another exporter", []string{"OTEL_TRACES_EXPORTER", "zipkin"}, result{}, "OTEL_TRACES_EXPORTER"},
		{"our protocol", []string{otlp + "PROTOCOL", "http/protobuf"}, plain, ""},
		{"another protocol", []string{otlp + "PROTOCOL", "grpc"}, result{}, otlp + "PROTOCOL"},
		{"the traces' protocol", []string{otlp + "PROTOCOL", "grpc", otlp + "TRACES_PROTOCOL", "http/protobuf"}, plain, ""},
		{"no URL", []string{endpointName, "127.0.0.1:4318"}, result{}, endpointName},
		{"another scheme", []string{otlp + "TRACES_ENDPOINT", "unix:///x"}, result{}, otlp + "TRACES_ENDPOINT"},
		{
			"how",
			[]string{otlp + "HEADERS", "x-key=a%20b, authorization=Basic%3D ,", otlp + "TIMEOUT", "1500", otlp + "COMPRESSION", "gzip"},
			result{url, http.Header{"X-Key": {"a b"}, "Authorization": {"Basic="}}, 1500 * time.Millisecond, true},
			"",
		},
		{
			"how, for traces",
			[]string{
				otlp + "HEADERS", "x=1", otlp + "TRACES_HEADERS", "y=2", otlp + "TIMEOUT", "1", otlp + "TRACES_TIMEOUT", "2",
				otlp + "COMPRESSION", "gzip", otlp + "TRACES_COMPRESSION", "none",
			},
			result{url, http.Header{"Y": {"2"}}, 2 * time.Millisecond, false},
			"",
		},
		{"a header without a value", []string{otlp + "HEADERS", "x"}, result{}, otlp + "HEADERS"},
		{"a header without a name", []string{otlp + "HEADERS", "=x"}, result{}, otlp + "HEADERS"},
		{"a header's bad name", []string{otlp + "HEADERS", "a b=x"}, result{}, otlp + "HEADERS"},
		{"a header of two lines", []string{otlp + "HEADERS", "x=a%0d%0ab"}, result{}, otlp + "HEADERS"},
		{"a header's bad encoding", []string{otlp + "HEADERS", "x=%zz"}, result{}, otlp + "HEADERS"},
		{"no time", []string{otlp + "TIMEOUT", "0"}, result{}, otlp + "TIMEOUT"},
		{"a time with a unit", []string{otlp + "TIMEOUT", "10s"}, result{}, otlp + "TIMEOUT"},
		{"another compression", []string{otlp + "COMPRESSION", "zstd"}, result{}, otlp + "COMPRESSION"},
		{"no such certificate", []string{otlp + "CERTIFICATE", "/nowhere"}, result{}, otlp + "CERTIFICATE"},
		{"no such certificate of ours", []string{otlp + "CLIENT_CERTIFICATE", "/nowhere"}, result{}, otlp + "CLIENT_CERTIFICATE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, ok, err := readDestination(environment(append([]string{endpointName, "http://127.0.0.1:4318"}, tt.env...)...))
			if ok != (tt.want.URL != "") || (err != nil) != (tt.bad != "") || err != nil && !strings.HasPrefix(err.Error(), tt.bad+"=") {
				t.Fatalf("got %v, %v, want %q and an error of %q", ok, err, tt.want.URL, tt.bad)
			}
			if err != nil && actions.CodeOf(err) != actions.Invalid {
				t.Errorf("got code %s, want invalid", actions.CodeOf(err))
			}
			if diff := cmp.Diff(tt.want, result{d.url, d.header, d.timeout, d.gzip}); ok && diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a header says may be a key.
func TestSecretsStaySecret(t *testing.T) {
	_, _, err := readDestination(environment(endpointName, "http://x", "OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the value", err)
	}
}

// writeCertificate writes a certificate for this machine and its key, both in PEM.
func writeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
