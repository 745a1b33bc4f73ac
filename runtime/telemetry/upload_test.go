package telemetry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// answering is a collector without a network: it gives one answer after the other, the last
// one again and again, and notes when it was asked.
type answering struct {
	answers []reply
	asked   []time.Duration
	made    time.Time
}

func (a *answering) RoundTrip(req *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, time.Since(a.made))
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	now := a.answers[min(len(a.asked), len(a.answers))-1]
	if now.status == 0 {
		return nil, errors.New("no route to host")
	}
	header := http.Header{}
	if now.retryAfter != "" {
		header.Set("Retry-After", now.retryAfter)
	}
	body := io.NopCloser(strings.NewReader(strings.Repeat("no ", 100)))
	return &http.Response{StatusCode: now.status, Status: http.StatusText(now.status), Header: header, Body: body}, nil
}

// A reply is what a collector answers; with no status there is none.
type reply struct {
	status     int
	retryAfter string
}

func TestUploadAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []reply
		asked   int
		least   time.Duration // between the first and the last question
		most    time.Duration
		bad     string
	}{
		{"at once", []reply{{200, ""}}, 1, 0, 0, ""},
		{"accepted", []reply{{202, ""}}, 1, 0, 0, ""},
		{"busy", []reply{{503, ""}, {429, ""}, {200, ""}}, 3, 1500 * time.Millisecond, 3 * time.Second, ""},
		{"busy for long", []reply{{503, "7"}, {200, ""}}, 2, 7 * time.Second, 7 * time.Second, ""},
		{"a bad hint", []reply{{502, "-7"}, {504, "soon"}, {200, ""}}, 3, 1500 * time.Millisecond, 3 * time.Second, ""},
		{"away", []reply{{}, {200, ""}}, 2, 500 * time.Millisecond, time.Second, ""},
		{"refused", []reply{{400, ""}}, 1, 0, 0, "http://collector answers Bad Request"},
		{"not found", []reply{{404, ""}}, 1, 0, 0, "answers Not Found"},
		{"never", []reply{{}}, 5, 15 * time.Second, 30 * time.Second, "no route to host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				collector := &answering{answers: tt.answers, made: time.Now()}
				u := newUploader(destination{url: "http://collector", timeout: time.Second})
				u.client.Transport = collector
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				err := u.UploadTraces(ctx, []*otlp.ResourceSpans{{}})
				if (err != nil) != (tt.bad != "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
					t.Errorf("got %v, want %q", err, tt.bad)
				}
				if err != nil && len(err.Error()) > 400 {
					t.Errorf("the error has %d bytes: %v", len(err.Error()), err)
				}
				last := collector.asked[len(collector.asked)-1]
				if n := len(collector.asked); n < tt.asked || tt.bad != "no route to host" && n > tt.asked || last < tt.least || last > tt.most {
					t.Errorf("got %d questions, the last after %v, want %d within %v to %v", n, last, tt.asked, tt.least, tt.most)
				}
			})
		})
	}
}

// Over TLS, with an authority of one's own and a certificate for the collector.
func TestTLS(t *testing.T) {
	certificate, key := writeCertificate(t)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	pem, err := os.ReadFile(certificate)
	if err != nil || !authority.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	asked := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: authority, ClientAuth: tls.RequireAndVerifyClientCert}
	server.StartTLS()
	defer server.Close()
	const otlpName = "OTEL_EXPORTER_OTLP_"
	env := []string{endpointName, server.URL, otlpName + "CERTIFICATE", certificate, otlpName + "CLIENT_CERTIFICATE", certificate, otlpName + "CLIENT_KEY", key}
	for _, tt := range []struct {
		name string
		env  []string
		want int
	}{
		{"both", env, 1},
		{"no authority", append([]string{}, env[0], env[1], env[4], env[5], env[6], env[7]), 0},
		{"no certificate", env[:4], 0},
	} {
		d, ok, err := readDestination(environment(tt.env...))
		if err != nil || !ok {
			t.Fatalf("%s: got %v, %v", tt.name, ok, err)
		}
		asked = 0
		u := newUploader(d)
		if _, err := u.post(t.Context(), nil); (err == nil) != (tt.want == 1) || asked != tt.want {
			t.Errorf("%s: got %v and %d questions, want %d", tt.name, err, asked, tt.want)
		}
		_ = u.Stop(t.Context())
	}
}
