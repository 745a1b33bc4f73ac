package storage

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestGSBrokenSource shows that Google's store gets nothing whole of what could not be read
// to its end. Go Cloud by itself would have it store the part.
func TestGSBrokenSource(t *testing.T) {
	var stored atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			stored.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"bucket": "bucket", "name": "key", "generation": "1"}`)
	}))
	defer srv.Close()
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(srv.URL, "http://"))
	s := newStorage(t, Config{Allow: []string{"gs://"}})
	err := s.Put(t.Context(), "gs://bucket/key", strings.NewReader("12345"), 2*partBytes, actions.PutOptions{})
	wantError(t, err, actions.Internal, "another length")
	if got := stored.Load(); got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
	if err := put(t, s, "gs://bucket/key", "12345", actions.PutOptions{Once: true}); err != nil || stored.Load() != 1 {
		t.Errorf("got %d requests, %v, want one", stored.Load(), err)
	}
}
