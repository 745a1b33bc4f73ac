package bridge

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// Whatever a server answers, the response or the error is one that may be sent on.
func FuzzReply(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"status":"OK","predictions":[1]}`))
	f.Add(200, "application/json", []byte(`[`))
	f.Add(422, "application/json", []byte(`{"a":["b"]}`))
	f.Add(500, "text/plain", []byte("\xff\x00"))
	f.Add(302, "", []byte(nil))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		r := &reply{status: status, contentType: contentType, body: body}
		resp, err := r.response()
		if err == nil {
			if resp.ContentType == "" || resp.ContentType == jsonType && actions.IsJSON(r.contentType) && !json.Valid(resp.Data) {
				t.Fatalf("got %q %q", resp.ContentType, resp.Data)
			}
			return
		}
		var e *actions.Error
		if e, _ = err.(*actions.Error); e == nil || e.Msg == "" || e.Status != 0 && (e.Status < 400 || e.Status > 599) { //nolint:errorlint // it is not wrapped
			t.Fatalf("got %#v", err)
		}
	})
}

// Whatever a swagger.json says, its parameters become ones of ours.
func FuzzParameter(f *testing.F) {
	f.Add([]byte(`{"in":"query","name":"a","type":"array","items":{"type":"string"}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"name":"b","type":"file","items":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p parameter
		if json.Unmarshal(raw, &p) != nil {
			return
		}
		for _, out := range signature([]parameter{p}).Parameters {
			if !json.Valid(out.Schema) || out.Type == "" {
				t.Fatalf("got %#v", out)
			}
		}
	})
}

// Whatever the arguments are, the request is refused, or its JSON is what came, or its
// form can be read.
func FuzzArguments(f *testing.F) {
	f.Add([]byte(`{"image":"aGk=","n":[1,{"a":2}]}`), "image", "*/*")
	f.Add([]byte(`{"image":{"data":"data:x;base64,aGk"}}`), "a\"b\n", "image/*;q=2")
	f.Add([]byte(`[]`), "", "")
	parameters := []parameter{
		{Name: "image", In: "formData", Type: "file"},
		{Name: "n", In: "query"},
		{Name: "accept", In: "header", Enum: []json.RawMessage{[]byte(`"image/png"`), []byte(`1`)}},
	}
	f.Fuzz(func(t *testing.T, args []byte, name, accept string) {
		req := &actions.Request{Args: args, Accept: accept}
		if len(name)%2 == 1 {
			req.Files = []actions.File{{Name: name, Filename: name, ContentType: accept}}
		}
		out, err := (&Program{}).newRequest(req, parameters)
		if err != nil {
			if code := actions.CodeOf(err); code != actions.Invalid && code != actions.Unsupported {
				t.Fatalf("got %v", err)
			}
			return
		}
		switch media, params, _ := mime.ParseMediaType(out.contentType); media {
		case jsonType:
			if !bytes.Equal(out.body, args) {
				t.Fatalf("got %q", out.body)
			}
		case "multipart/form-data":
			r := multipart.NewReader(bytes.NewReader(out.body), params["boundary"])
			for {
				part, err := r.NextPart()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%q: %v", out.body, err)
				}
				_ = part.Close()
			}
		}
		for _, values := range out.header {
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Fatalf("got header %q", v)
				}
			}
		}
	})
}
