package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// firstPause is how long a refused batch waits at first, lastPause the most it waits.
	firstPause, lastPause = time.Second, 10 * time.Second
	// maxAnswer is how much is read of a collector's answer, and maxShown of a refusal shown.
	maxAnswer, maxShown = 64 << 10, 200
)

// An uploader posts spans to a collector: OTLP over HTTP, in protobuf. The exporter of
// OpenTelemetry's own does the same, but links gRPC, which is a seventh of a relay.
type uploader struct {
	destination
	client *http.Client
}

func newUploader(d destination) *uploader {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: d.tls, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	return &uploader{d, &http.Client{Transport: transport, Timeout: d.timeout}}
}

// Start implements otlptrace.Client.
func (u *uploader) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (u *uploader) Stop(context.Context) error {
	u.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. A collector that does not answer, or is busy, is
// asked again until ctx ends.
func (u *uploader) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	// On the wire this is an ExportTraceServiceRequest, whose package is gRPC's.
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("telemetry: spans: %w", err)
	}
	if u.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := w.Write(body)
		if err = errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("telemetry: spans: %w", err)
		}
		body = b.Bytes()
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		again, err := u.post(ctx, body)
		if err == nil || again < 0 {
			return err
		}
		wait := max(again, pause/2+rand.N(pause/2)) //nolint:gosec // who asks again at which time is no secret
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// post sends a batch once. With an error, again is how long the collector wants to be left
// alone, negative when it does not want the batch at all.
func (u *uploader) post(ctx context.Context, body []byte) (again time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, bytes.NewReader(body))
	if err != nil {
		return -1, fmt.Errorf("telemetry: collector: %w", err)
	}
	maps.Copy(req.Header, u.header)
	req.Header.Set("Content-Type", "application/x-protobuf")
	if u.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("telemetry: collector: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // so that the connection is used again
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // without it, soon
		again = time.Duration(min(max(seconds, 0), int(time.Hour/time.Second))) * time.Second
	default:
		again = -1
	}
	return again, fmt.Errorf("telemetry: collector: %s answers %s %q", req.URL.Redacted(), resp.Status, answer[:min(len(answer), maxShown)])
}
