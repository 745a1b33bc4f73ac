package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/storage/s3test"
)

const bucketURL = "s3://" + s3test.Bucket + "/"

// newGateway starts a real server of S3, and makes a storage that may use it.
func newGateway(t *testing.T, cfg Config) (*Storage, *s3test.Server) {
	t.Helper()
	srv := s3test.Start(t)
	srv.Environment(t)
	cfg.Allow = []string{"s3://"}
	return newStorage(t, cfg), srv
}

// TestGateway goes through all that a real server of S3 can do, and the storage with it.
func TestGateway(t *testing.T) {
	s, _ := newGateway(t, Config{})
	ways(t, s, bucketURL)
	race(t, s, bucketURL+"out/")
	for _, err := range s.List(t.Context(), "s3://absent/") {
		wantError(t, err, actions.NotFound, "no such bucket")
	}
	_, err := s.Stat(t.Context(), "s3://absent/key")
	wantError(t, err, actions.NotFound, "no such object") // which is all that a HEAD tells
	wantError(t, put(t, s, "s3://absent/key", "x", actions.PutOptions{}), actions.NotFound, "no such bucket")
	wantError(t, s.Copy(t.Context(), bucketURL+"a/text.txt", "s3://absent/key"), actions.Unsupported, "another store")
	for _, err := range s.List(t.Context(), bucketURL+"a") {
		wantError(t, err, actions.Invalid, "end in a slash")
	}
	for _, err := range newStorage(t, Config{Allow: []string{"s3://bucket/in/"}}).List(t.Context(), bucketURL) {
		wantError(t, err, actions.Forbidden, "--allow-url s3://bucket/")
	}
}

// TestGatewayOrder lists more than one page, in the order of the keys' bytes.
func TestGatewayOrder(t *testing.T) {
	s, _ := newGateway(t, Config{})
	var want []string
	for i := range 3000 {
		want = append(want, fmt.Sprintf("%03d/%d", i/10, i%10))
	}
	var writers sync.WaitGroup
	for part := range 8 {
		writers.Go(func() {
			for i := part; i < len(want); i += 8 {
				if err := put(t, s, bucketURL+"in/"+want[i], want[i], actions.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if err := put(t, s, bucketURL+"other", "x", actions.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	got := listed(t, s, bucketURL+"in/")
	if len(got) != len(want) {
		t.Fatalf("got %d objects, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("object %d: got %s, want %s", i, got[i], want[i])
		}
	}
}

// zeros is a body of so many bytes that takes no memory, and can be read from its beginning.
type zeros struct {
	size, at int64
	hook     func(at int64)
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.at == z.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.size-z.at))
	clear(p[:n])
	if z.at += int64(n); z.hook != nil {
		z.hook(z.at)
	}
	return n, nil
}

func (z *zeros) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	z.at = 0
	return 0, nil
}

// TestGatewayLarge puts an object in parts, with little memory, and once only.
func TestGatewayLarge(t *testing.T) {
	s, _ := newGateway(t, Config{})
	const size = 80 << 20
	var before, most runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	body := &zeros{size: size, hook: func(at int64) {
		if at%partBytes == 0 {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most.HeapInuse = max(most.HeapInuse, now.HeapInuse)
		}
	}}
	if err := s.Put(t.Context(), bucketURL+"large", body, size, actions.PutOptions{Once: true}); err != nil {
		t.Fatal(err)
	}
	if grown := int64(most.HeapInuse) - int64(before.HeapInuse); grown > 6*partBytes {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	wantError(t, s.Put(t.Context(), bucketURL+"large", body, size, actions.PutOptions{Once: true}), actions.Conflict, "already")
	r, err := s.Open(t.Context(), bucketURL+"large", 1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	sum, want := sha256.New(), sha256.Sum256(make([]byte, size-1))
	if n, err := io.Copy(sum, r); err != nil || n != size-1 || !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

// wantPassing wants an error that may go away by itself.
func wantPassing(t *testing.T, err error, says string) {
	t.Helper()
	wantError(t, err, actions.Unavailable, says)
	if e, ok := errors.AsType[*actions.Error](err); ok && e.RetryAfter <= 0 {
		t.Errorf("%v: got no time to try again", err)
	}
}

// TestGatewayKilled kills the server in the middle of each call. What was there stays, and
// nothing is half there.
func TestGatewayKilled(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "2") // so that each of the calls takes a second less
	s, srv := newGateway(t, Config{Timeout: 20 * time.Second})
	const size = 40 << 20
	old := strings.Repeat("old", 1<<20)
	for _, name := range []string{"small", "large"} {
		if err := put(t, s, bucketURL+name, old, actions.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	inMiddle := func(method string) {
		srv.Fault(s3test.Fault{
			Match: func(r *http.Request) bool { return r.Method == method }, Times: 1, Rate: 4 << 20, Then: srv.Kill,
		})
	}
	for name, call := range map[string]func() error{
		"put": func() error {
			inMiddle(http.MethodPut)
			return s.Put(t.Context(), bucketURL+"small", &zeros{size: partBytes}, partBytes, actions.PutOptions{})
		},
		"put in parts": func() error {
			var middle sync.Once
			return s.Put(t.Context(), bucketURL+"large", &zeros{size: size, hook: func(at int64) {
				if at >= size/2 {
					middle.Do(srv.Kill)
				}
			}}, size, actions.PutOptions{})
		},
		"put once": func() error {
			inMiddle(http.MethodPut)
			return s.Put(t.Context(), bucketURL+"new", &zeros{size: partBytes}, partBytes, actions.PutOptions{Once: true})
		},
		"read": func() error {
			srv.Fault(s3test.Fault{Times: 1, Rate: 4 << 20}) // else all of it may have come before the end
			r, err := s.Open(t.Context(), bucketURL+"small", 0, -1)
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }()
			_, err = io.ReadFull(r, make([]byte, 1000))
			srv.Kill()
			return errors.Join(err, drain(r))
		},
		"list": func() error {
			inMiddle(http.MethodGet)
			for _, err := range s.List(t.Context(), bucketURL) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"stat": func() error { inMiddle(http.MethodHead); _, err := s.Stat(t.Context(), bucketURL+"small"); return err },
		"copy": func() error {
			inMiddle(http.MethodPut)
			return s.Copy(t.Context(), bucketURL+"small", bucketURL+"copy")
		},
		"remove": func() error { inMiddle(http.MethodHead); return s.Remove(t.Context(), bucketURL+"small") },
	} {
		t.Run(name, func(t *testing.T) {
			wantPassing(t, call(), "")
			_, err := s.Stat(t.Context(), bucketURL+"small")
			wantPassing(t, err, "cannot be reached")
			srv.Restart()
			for _, name := range []string{"small", "large"} {
				if got := read(t, s, bucketURL+name, 0, -1); got != old {
					t.Errorf("%s: got %d bytes, want the old %d", name, len(got), len(old))
				}
			}
			if got := listed(t, s, bucketURL); len(got) != 2 {
				t.Errorf("got %q, want only what was there", got)
			}
		})
	}
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// TestGatewayFaults shows what becomes of what a server and a network do.
func TestGatewayFaults(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	// The SDK waits for up to two seconds before it tries again, in which nothing comes.
	patient, srv := newGateway(t, Config{Timeout: time.Minute})
	hasty := newStorage(t, Config{Allow: []string{"s3://"}, Timeout: 2 * time.Second})
	if err := put(t, patient, bucketURL+"key", strings.Repeat("x", 1<<20), actions.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	get := func(s *Storage) error {
		r, err := s.Open(t.Context(), bucketURL+"key", 0, -1)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		return drain(r)
	}
	write := func(s *Storage) error {
		return put(t, s, bucketURL+"other", strings.Repeat("x", 1<<18), actions.PutOptions{})
	}
	once := func(s *Storage) error { return put(t, s, bucketURL+"once", "x", actions.PutOptions{Once: true}) }
	for _, tt := range []struct {
		name  string
		fault s3test.Fault
		s     *Storage
		call  func(s *Storage) error
		code  actions.Code // "" is no error
		says  string
	}{
		{"slow down, once", s3test.Fault{Status: 503, Code: "SlowDown", Times: 1}, patient, get, "", ""},
		{"slow down, put once", s3test.Fault{Status: 503, Code: "SlowDown", Times: 1}, patient, write, "", ""},
		{"slow down", s3test.Fault{Status: 503, Code: "SlowDown"}, patient, get, actions.Unavailable, "answered 503"},
		{"at fault", s3test.Fault{Status: 500, Code: "InternalError"}, patient, write, actions.Unavailable, "answered 500"},
		{"no conditions", s3test.Fault{Status: 501, Code: "NotImplemented"}, patient, once, actions.Unsupported, "If-None-Match"},
		{"no conditions, by another status", s3test.Fault{Status: 400, Code: "NotImplemented"}, patient, once, actions.Unsupported, "If-None-Match"},
		{"others put it", s3test.Fault{Status: 409, Code: "ConditionalRequestConflict"}, patient, once, actions.Unavailable, "answered 409"},
		{"used up", s3test.Fault{Status: 403, Code: "QuotaExceeded"}, patient, write, actions.Unavailable, "the store is full"},
		{"forbidden", s3test.Fault{Status: 403, Code: "AccessDenied"}, patient, get, actions.Forbidden, "answered 403"},
		{"hangs", s3test.Fault{Hang: true}, hasty, get, actions.Unavailable, "nothing came for 2s"},
		{"hangs in a put", s3test.Fault{Hang: true}, hasty, write, actions.Unavailable, "nothing came for 2s"},
		{"breaks off, once", s3test.Fault{Cut: 1000, Times: 1, Match: isPut}, patient, write, "", ""},
		{"breaks off", s3test.Fault{Cut: 1000}, patient, get, actions.Unavailable, "ended before it was complete"},
		{"slow, but something comes", s3test.Fault{Rate: 1 << 18}, hasty, get, "", ""}, // 4 s, more than the timeout
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer srv.Clear()
			srv.Fault(tt.fault)
			err := tt.call(tt.s)
			switch {
			case tt.code == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.code == actions.Unavailable:
				wantPassing(t, err, tt.says)
			case tt.code != "":
				wantError(t, err, tt.code, tt.says)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
	defer cancel()
	srv.Fault(s3test.Fault{Hang: true})
	_, err := patient.Stat(ctx, bucketURL+"key")
	wantError(t, err, actions.Deadline, "the time of the request was over")
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = patient.Stat(ctx, bucketURL+"key")
	wantError(t, err, actions.Canceled, "given up")
}

func isPut(r *http.Request) bool { return r.Method == http.MethodPut }

// TestGatewayFull fills the file system of a server: what does not fit is not there, and
// there is room again when something is removed.
func TestGatewayFull(t *testing.T) {
	srv := s3test.StartSmall(t, 32<<20)
	srv.Environment(t)
	s := newStorage(t, Config{Allow: []string{"s3://"}})
	fill := func(name string, size int64) error {
		return s.Put(t.Context(), bucketURL+name, &zeros{size: size}, size, actions.PutOptions{})
	}
	for i := range 4 {
		if err := fill(fmt.Sprintf("ballast-%d", i), 7<<20); err != nil {
			t.Fatal(err)
		}
	}
	wantPassing(t, fill("one-piece", 8<<20), "the store is full")
	wantPassing(t, fill("parts", 40<<20), "the store is full")
	if got := listed(t, s, bucketURL); len(got) != 4 {
		t.Errorf("got %q, want only the ballast", got)
	}
	if err := s.Remove(t.Context(), bucketURL+"ballast-0"); err != nil {
		t.Fatal(err)
	}
	if err := fill("one-piece", 8<<20); err != nil {
		t.Errorf("with room again: got %v", err)
	}
}
