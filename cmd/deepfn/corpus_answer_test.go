package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bytes is the request as it is sent.
func (r *corpusRequest) bytes(path string) []byte {
	body := []byte(r.Body)
	headers := slices.Clone(r.Headers)
	if r.BodyBase64 != nil {
		body = r.BodyBase64
	}
	if r.Multipart != nil {
		body = nil
		headers = append(headers, [2]string{"Content-Type", "multipart/form-data; boundary=" + corpusBoundary})
		for _, p := range r.Multipart {
			body = fmt.Appendf(body, "--%s\r\nContent-Disposition: form-data; name=\"%s\"", corpusBoundary, p.Name)
			if p.Filename != nil {
				body = fmt.Appendf(body, "; filename=\"%s\"", *p.Filename)
			}
			if p.ContentType != nil {
				body = fmt.Appendf(body, "\r\nContent-Type: %s", *p.ContentType)
			}
			body = append(append(append(body, "\r\n\r\n"+p.Text...), p.Base64...), "\r\n"...)
		}
		body = append(body, "--"+corpusBoundary+"--\r\n"...)
	}
	if r.Query != "" {
		path += "?" + r.Query
	}
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n", r.Method, path)
	for _, h := range append(headers, [2]string{"Content-Length", fmt.Sprint(len(body))}) {
		head = fmt.Appendf(head, "%s: %s\r\n", h[0], h[1])
	}
	return append(append(head, "\r\n"...), body...)
}

// ask sends a request and returns the answer.
func (r *corpusRequest) ask(t *testing.T, address, path string) corpusAnswer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(r.bytes(path)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.Method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return corpusAnswer{
		Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Body: string(data),
		Location: resp.Header.Get("Location"), Allow: resp.Header.Get("Allow"),
	}
}

// uuid returns the member uuid of an answer.
func (a *corpusAnswer) uuid() (uuid, status string) {
	var doc struct{ UUID, Status string }
	_ = json.Unmarshal([]byte(a.Body), &doc)
	return doc.UUID, doc.Status
}

// mediaType is the media type of an answer without parameters: application/json has none
// (RFC 8259), although upstream sends a charset with it.
func (a *corpusAnswer) mediaType() string {
	kind, _, err := mime.ParseMediaType(a.ContentType)
	if err != nil {
		return a.ContentType
	}
	return kind
}

// content is the body, with zeros for the digits of what is different each time.
func (a *corpusAnswer) content(r *corpusRequest) string {
	body := a.Body + string(a.BodyBase64)
	for _, name := range r.Ignore {
		name = name[strings.LastIndexByte(name, '.')+1:]
		value := regexp.MustCompile(`("` + name + `": ?")([^"]*)(")`)
		body = value.ReplaceAllStringFunc(body, func(found string) string {
			m := value.FindStringSubmatch(found)
			return m[1] + regexp.MustCompile(`[0-9a-f]`).ReplaceAllString(m[2], "0") + m[3]
		})
	}
	return body
}

// differs compares two answers, and says what is different.
func (r *corpusRequest) differs(want, got corpusAnswer) string {
	switch {
	case want.Hangs || want.Closes:
		return "upstream does not answer"
	case got.Status != want.Status:
		return fmt.Sprintf("got status %d, want %d", got.Status, want.Status)
	case got.mediaType() != want.mediaType():
		return fmt.Sprintf("got the content type %q, want %q", got.ContentType, want.ContentType)
	case got.Location != want.Location:
		return fmt.Sprintf("got the location %q, want %q", got.Location, want.Location)
	}
	for method := range strings.SplitSeq(want.Allow, ",") {
		if !strings.Contains(got.Allow, method) {
			return fmt.Sprintf("got allowed %q, want %q", got.Allow, want.Allow)
		}
	}
	wantBody, gotBody := want.content(r), got.content(r)
	if got.mediaType() == "application/json" && r.Method != http.MethodHead {
		var wantJSON, gotJSON any
		if err := errors.Join(json.Unmarshal([]byte(wantBody), &wantJSON), json.Unmarshal([]byte(gotBody), &gotJSON)); err != nil {
			return fmt.Sprintf("%v: got %q, want %q", err, gotBody, wantBody)
		}
		if diff := cmp.Diff(wantJSON, gotJSON); diff != "" {
			return "body (-want +got):\n" + diff
		}
		if got.Status != http.StatusOK {
			return "" // how an error is written is left open
		}
	}
	if gotBody != wantBody {
		return fmt.Sprintf("the bytes:\n got %q\nwant %q", gotBody, wantBody)
	}
	return ""
}

// TestCorpusDiffers: an answer is upstream's only when all that counts is.
func TestCorpusDiffers(t *testing.T) {
	same := corpusAnswer{Status: 200, ContentType: "application/json; charset=utf-8", Body: `{"a": 1, "date": "2026-01-02"}`, Allow: "GET"}
	tests := map[string]struct {
		change func(*corpusAnswer)
		want   string
	}{
		"nothing":              {func(a *corpusAnswer) { a.ContentType = "application/json"; a.Allow = "GET, HEAD" }, ""},
		"what is ignored":      {func(a *corpusAnswer) { a.Body = `{"a": 1, "date": "1999-09-09"}` }, ""},
		"its shape":            {func(a *corpusAnswer) { a.Body = `{"a": 1, "date": "today"}` }, "body"},
		"status":               {func(a *corpusAnswer) { a.Status = 201 }, "status"},
		"content type":         {func(a *corpusAnswer) { a.ContentType = "text/json" }, "content type"},
		"location":             {func(a *corpusAnswer) { a.Location = "/" }, "location"},
		"methods":              {func(a *corpusAnswer) { a.Allow = "POST" }, "allowed"},
		"value":                {func(a *corpusAnswer) { a.Body = `{"a": 2, "date": "2026-01-02"}` }, "body"},
		"one member more":      {func(a *corpusAnswer) { a.Body = `{"a": 1, "date": "2026-01-02", "b": null}` }, "body"},
		"order of the members": {func(a *corpusAnswer) { a.Body = `{"date": "2026-01-02", "a": 1}` }, "bytes"},
		"spaces":               {func(a *corpusAnswer) { a.Body = `{"a":1,"date":"2026-01-02"}` }, "bytes"},
		"no JSON":              {func(a *corpusAnswer) { a.Body = `{` }, "unexpected end"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, got := corpusRequest{Ignore: []string{"date"}}, same
			tt.change(&got)
			if diff := r.differs(same, got); (diff == "") != (tt.want == "") || !strings.Contains(diff, tt.want) {
				t.Errorf("got %q, want %q", diff, tt.want)
			}
		})
	}
	r := corpusRequest{}
	if r.differs(corpusAnswer{Hangs: true}, same) == "" || r.differs(corpusAnswer{Closes: true}, same) == "" {
		t.Error("no answer is like one")
	}
}
