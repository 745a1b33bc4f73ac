package proxy

import (
	"context"
	"net/http"
)

// healthz answers 200 as long as the process does anything.
func (s *Server) healthz(context.Context, *request) response {
	return jsonResponse(http.StatusOK, struct {
		Status  string `json:"status"`
		Version string `json:"version,omitempty"`
	}{"ok", s.cfg.Version})
}

// readyz answers 200 when the server can predict, else 503 with the reason.
func (s *Server) readyz(context.Context, *request) response {
	type readiness struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}
	reason := ""
	if s.draining.Load() {
		reason = drainingError().Msg
	} else if err := s.cfg.Ready(); err != nil {
		reason = err.Error()
	} else if s.cfg.Entry.Code != "" && s.action.Load() == nil {
		reason = "the function is being initialized"
	}
	if reason == "" {
		return jsonResponse(http.StatusOK, readiness{Ready: true})
	}
	resp := jsonResponse(http.StatusServiceUnavailable, readiness{Reason: reason})
	resp.retryAfter = 1
	return resp
}

// metricsPage answers with all metrics in the text format of Prometheus.
func (s *Server) metricsPage(ctx context.Context, r *request) response {
	contentType, body, err := s.metrics.page()
	if err != nil {
		s.log.ErrorContext(ctx, "metrics", "error", err.Error())
		return failure(internalError(r.id))
	}
	return response{status: http.StatusOK, contentType: contentType, body: body}
}
