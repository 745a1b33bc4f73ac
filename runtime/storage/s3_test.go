package storage

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

const accessKey, secretKey, region = "test-key", "test-secret", "eu-test-1"

// An s3Server keeps objects of the bucket "bucket" in the words of S3's REST API, and
// refuses what is not signed with the key above (AWS Signature Version 4).
type s3Server struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	objects  map[string]s3Object
	parts    map[string]map[int][]byte // of uploads that are not complete
	requests []string
	fail     func(r *http.Request) int // a status to answer instead
}

type s3Object struct {
	contentType string
	data        []byte
	encoding    string
}

func newS3Server(tb testing.TB) *s3Server {
	tb.Helper()
	s := &s3Server{objects: map[string]s3Object{}, parts: map[string]map[int][]byte{}}
	s.Server = httptest.NewServer(s)
	tb.Cleanup(s.Close)
	return s
}

// environment has the SDK find the server, and nothing of the machine's.
func (s *s3Server) environment(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "credentials"),
		"AWS_ENDPOINT_URL_S3": s.URL, "AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey,
		"AWS_REGION": region, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "AWS_SESSION_TOKEN": "", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
}

func (s *s3Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	if s.fail != nil {
		if status := s.fail(r); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/bucket/")
	switch {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	case !signed(r):
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
	case !ok:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodGet:
		s.get(w, key)
	case r.Method == http.MethodPut && r.URL.Query().Has("uploadId"):
		n, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
		s.parts[key][n] = body
		w.Header().Set("ETag", `"part"`)
	case r.Method == http.MethodPut:
		s.objects[key] = s3Object{contentType: r.Header.Get("Content-Type"), data: body}
	case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
		s.parts[key] = map[int][]byte{}
		s.parts[key][0] = []byte(r.Header.Get("Content-Type"))
		_, _ = fmt.Fprintf(w, `<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == http.MethodPost:
		s.complete(w, key, body)
	case r.Method == http.MethodDelete:
		delete(s.parts, key)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *s3Server) get(w http.ResponseWriter, key string) {
	o, ok := s.objects[key]
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("Content-Type", o.contentType)
	if o.encoding != "" {
		w.Header().Set("Content-Encoding", o.encoding)
	}
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
	_, _ = w.Write(o.data)
}

func (s *s3Server) complete(w http.ResponseWriter, key string, body []byte) {
	var order struct {
		Part []struct{ PartNumber int }
	}
	if err := xml.Unmarshal(body, &order); err != nil {
		refuse(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	var data []byte
	for _, part := range order.Part {
		data = append(data, s.parts[key][part.PartNumber]...)
	}
	s.objects[key] = s3Object{contentType: string(s.parts[key][0]), data: data}
	delete(s.parts, key)
	_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>`)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>a message</Message></Error>", code)
}

// signed computes the signature of a request again.
func signed(r *http.Request) bool {
	head, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return false
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(head, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[0] != accessKey || scope[2] != region || scope[3] != "s3" {
		return false
	}
	canonical := []string{r.Method, r.URL.EscapedPath(), canonicalQuery(r.URL.Query())}
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical = append(canonical, name+":"+strings.TrimSpace(value))
	}
	canonical = append(canonical, "", fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"))
	hash := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	text := strings.Join([]string{
		"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), strings.Join(scope[1:], "/"), hex.EncodeToString(hash[:]),
	}, "\n")
	signature := []byte("AWS4" + secretKey)
	for _, part := range append(slices.Clone(scope[1:]), text) {
		h := hmac.New(sha256.New, signature)
		_, _ = io.WriteString(h, part)
		signature = h.Sum(nil)
	}
	return hex.EncodeToString(signature) == fields["Signature"]
}

func canonicalQuery(query url.Values) string {
	var list []string
	for name, values := range query {
		for _, value := range values {
			list = append(list, url.QueryEscape(name)+"="+url.QueryEscape(value))
		}
	}
	sort.Strings(list)
	return strings.ReplaceAll(strings.Join(list, "&"), "+", "%20")
}

func TestS3(t *testing.T) {
	srv := newS3Server(t)
	srv.environment(t)
	srv.objects["in/line.png"] = s3Object{contentType: "image/png", data: []byte("pixels")}
	srv.objects["in/large"] = s3Object{contentType: "a/b", data: make([]byte, 1001)}
	s := newStorage(t, Config{Allow: []string{"s3://bucket/in/", "s3://bucket/out/", "s3://absent/"}, MaxBytes: 1000})

	var b bytes.Buffer
	f, err := s.Fetch(t.Context(), "s3://bucket/in/line.png", &b)
	if err != nil || b.String() != "pixels" || f.Filename != "line.png" || f.ContentType != "image/png" {
		t.Errorf("got %q, %+v, %v", b.String(), f, err)
	}
	srv.objects["in/zipped"] = s3Object{data: zipped(1000), encoding: "gzip"}
	srv.objects["in/bomb"] = s3Object{data: zipped(1001), encoding: "gzip"}
	srv.objects["in/odd"] = s3Object{encoding: "br"}
	b.Reset()
	if _, err := s.Fetch(t.Context(), "s3://bucket/in/zipped", &b); err != nil || b.Len() != 1000 {
		t.Errorf("zipped: got %d bytes, %v", b.Len(), err)
	}
	for url, want := range map[string]struct {
		code actions.Code
		says string
	}{
		"s3://bucket/in/bomb":                          {actions.TooLarge, "1000 bytes"},
		"s3://bucket/in/odd":                           {actions.Invalid, `"br"`},
		"s3://bucket/in/none":                          {actions.NotFound, "no such object"},
		"s3://absent/key":                              {actions.NotFound, "no such bucket"},
		"s3://bucket/in/large":                         {actions.TooLarge, "1000 bytes"},
		"s3://bucket/elsewhere":                        {actions.Forbidden, "--allow-url s3://bucket/"},
		"s3://other/in/line.png":                       {actions.Forbidden, "--allow-url s3://other/"},
		"s3://bucket/in/line.png?endpoint=http://evil": {actions.Invalid, "must not have a query"},
		"s3://bucket/in/line.png?":                     {actions.Invalid, "must not have a query"},
		"s3://bucket/in/":                              {actions.Invalid, "does not name an object"},
		"s3://bucket":                                  {actions.Forbidden, "--allow-url s3://bucket/"},
		"s3://b/in/line.png":                           {actions.Forbidden, "--allow-url s3://b/"},
		"s3://bucket:9000/in/line.png":                 {actions.Invalid, "the name of a bucket"},
		"s3://b@d/in/line.png":                         {actions.Invalid, "name or password"},
		"s3://bu~ket/in/line.png":                      {actions.Invalid, "the name of a bucket"},
		"s3://bucket/in/../out/x":                      {actions.Invalid, "dot segments"},
		"s3://bucket/in/a../b":                         {actions.Invalid, "names an object by"},
		"s3://bucket/in/a%01b":                         {actions.Invalid, "names an object by"},
		"s3://bucket/in/a%ffb":                         {actions.Invalid, "names an object by"},
	} {
		_, err := s.Fetch(t.Context(), url, io.Discard)
		wantError(t, err, want.code, want.says)
	}
	for _, text := range []string{"", "one", strings.Repeat("large ", 3<<20)} { // the last in parts
		url := "s3://bucket/out/a%20b.txt"
		if err := s.Store(t.Context(), url, actions.File{ContentType: "text/plain", Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
		if o := srv.objects["out/a b.txt"]; o.contentType != "text/plain" || string(o.data) != text {
			t.Errorf("got %d bytes of %s, want %d", len(o.data), o.contentType, len(text))
		}
	}
	if !slices.Contains(srv.requests, "POST /bucket/out/a b.txt") {
		t.Error("the large object was not uploaded in parts")
	}
}

// TestS3Keys shows that an object has the very key that its URL says, with slashes that
// follow each other.
func TestS3Keys(t *testing.T) {
	srv := newS3Server(t)
	srv.environment(t)
	s := newStorage(t, Config{Allow: []string{"s3://"}})
	for url, key := range map[string]string{
		"s3://bucket/a//b":       "a//b",
		"s3://bucket//a":         "/a",
		"s3://bucket/a%2Fb..":    "a/b..",
		"s3://bucket/%C3%A4%20+": "ä +",
		"s3://bucket/__0x2f__":   "__0x2f__",
	} {
		err := s.Store(t.Context(), url, actions.File{Data: []byte(url)})
		if err != nil || string(srv.objects[key].data) != url {
			t.Errorf("%s: got %q under %s, %v", url, srv.objects[key].data, key, err)
		}
		var got bytes.Buffer
		if _, err := s.Fetch(t.Context(), url, &got); err != nil || got.String() != url {
			t.Errorf("%s: fetched %q, %v", url, got.String(), err)
		}
	}
}

// TestS3Failures shows that what a store answers is not repeated, and that a large object
// which breaks off is not seen.
func TestS3Failures(t *testing.T) {
	srv := newS3Server(t)
	srv.environment(t)
	s := newStorage(t, Config{Allow: []string{"s3://"}})
	for status, want := range map[int]struct {
		code actions.Code
		says string
	}{
		http.StatusForbidden:          {actions.Forbidden, "s3://bucket/key answered 403 Forbidden"},
		http.StatusServiceUnavailable: {actions.Unavailable, "answered 503"},
		http.StatusMovedPermanently:   {actions.Unavailable, "another region"},
	} {
		srv.fail = func(*http.Request) int { return status }
		_, err := s.Fetch(t.Context(), "s3://bucket/key", io.Discard)
		wantError(t, err, want.code, want.says)
		wantError(t, s.Store(t.Context(), "s3://bucket/key", actions.File{}), want.code, want.says)
	}
	srv.fail = func(r *http.Request) int {
		if r.URL.Query().Get("partNumber") == "2" {
			return http.StatusInsufficientStorage
		}
		return 0
	}
	err := s.Store(t.Context(), "s3://bucket/key", actions.File{Data: make([]byte, 20<<20)})
	wantError(t, err, actions.Unavailable, "the store is full")
	if len(srv.objects) > 0 || len(srv.parts) > 0 {
		t.Errorf("there are %d objects and %d parts, want none", len(srv.objects), len(srv.parts))
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	s, srv.fail = newStorage(t, Config{Allow: []string{"s3://"}}), nil
	_, err = s.Fetch(t.Context(), "s3://bucket/key", io.Discard)
	wantError(t, err, actions.Forbidden, "answered 403")

	srv.Close()
	_, err = s.Fetch(t.Context(), "s3://bucket/key", io.Discard)
	wantError(t, err, actions.Unavailable, "cannot be reached")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Fetch(ctx, "s3://bucket/key", io.Discard)
	wantError(t, err, actions.Canceled, "given up")
}

// TestS3Profile shows that ~/.aws is read, and that a wrong one fails a fetch and not the
// server.
func TestS3Profile(t *testing.T) {
	srv := newS3Server(t)
	srv.environment(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL_S3"} {
		if err := os.Unsetenv(name); err != nil { // which the end of the test sets again
			t.Fatal(err)
		}
	}
	srv.objects["key"] = s3Object{contentType: "a/b", data: []byte("x")}
	profile := fmt.Sprintf("[default]\nregion = %s\naws_access_key_id = %s\naws_secret_access_key = %s\nendpoint_url = %s\n",
		region, accessKey, secretKey, srv.URL)
	file := os.Getenv("AWS_CONFIG_FILE")
	if err := os.WriteFile(file, []byte("[default\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStorage(t, Config{Allow: []string{"s3://"}, Timeout: time.Minute})
	if _, err := s.Fetch(t.Context(), "s3://bucket/key", io.Discard); err == nil {
		t.Error("a wrong profile: got no error")
	}
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := newStorage(t, Config{Allow: []string{"s3://"}}).Fetch(t.Context(), "s3://bucket/key", &b); err != nil || b.String() != "x" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}
