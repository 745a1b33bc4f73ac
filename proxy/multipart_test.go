package proxy

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// form makes a body of lines; the boundary is b.
func form(lines ...string) string { return strings.Join(lines, "\r\n") }

func TestParseMultipart(t *testing.T) {
	const text = `Content-Disposition: form-data; name="text"`
	const image = `content-disposition:form-data; name="image"; filename="a/b\cat.png"`
	tests := []struct {
		name string
		body string
		want actions.Values
	}{
		{"text", form("--b", text, "", "hello", "--b--", ""), actions.Values{Text: map[string][]string{"text": {"hello"}}}},
		{"empty text", form("--b", text, "", "", "--b--"), actions.Values{Text: map[string][]string{"text": {""}}}},
		{"no content", form("--b", text, "", "--b--"), actions.Values{Text: map[string][]string{"text": {""}}}},
		{"twice", form("--b", text, "", "1", "--b", text, "", "2", "--b--"), actions.Values{Text: map[string][]string{"text": {"1", "2"}}}},
		{"nothing", form("--b--"), actions.Values{}},
		{"preamble and epilogue", form("hi", "--b", text, "", "1", "--b--", "--b", "bye"), actions.Values{Text: map[string][]string{"text": {"1"}}}},
		{"space after the boundary", form("--b \t", text, "", "1", "--b  ", text, "", "2", "--b--"), actions.Values{Text: map[string][]string{"text": {"1", "2"}}}},
		{"like the boundary", form("--b", text, "", "1\r\n--bc\r\n-b\r\n--", "--b--"), actions.Values{Text: map[string][]string{"text": {"1\r\n--bc\r\n-b\r\n--"}}}},
		{"file", form("--b", image, "Content-Type: image/png", "X-More: yes", "", "\x00\r\n\xff", "--b--"), actions.Values{
			Files: []actions.File{{Name: "image", Filename: "cat.png", ContentType: "image/png", Data: []byte("\x00\r\n\xff")}},
		}},
		{"file without a name", form("--b", `Content-Disposition: form-data; name="image"`, "Content-Type: image/png", "", "x", "--b--"), actions.Values{
			Files: []actions.File{{Name: "image", ContentType: "image/png", Data: []byte("x")}},
		}},
		{"text with a type", form("--b", text, "Content-Type: text/plain; charset=utf-8", "", "x", "--b--"), actions.Values{Text: map[string][]string{"text": {"x"}}}},
		{"no file chosen", form("--b", `Content-Disposition: form-data; name="image"; filename=""`, "", "", "--b--"), actions.Values{
			Files: []actions.File{{Name: "image", Data: []byte{}}},
		}},
		{"base64", form("--b", text, "Content-Transfer-Encoding: BASE64", "", "aGVs\r\nbG8=", "--b--"), actions.Values{Text: map[string][]string{"text": {"hello"}}}},
		{"base64 of nothing", form("--b", text, "content-transfer-encoding: base64", "", "", "--b--"), actions.Values{Text: map[string][]string{"text": {""}}}},
		{"base64 file", form("--b", image, "Content-Transfer-Encoding: base64", "", "AP8=", "--b--"), actions.Values{
			Files: []actions.File{{Name: "image", Filename: "cat.png", Data: []byte("\x00\xff")}},
		}},
		{"quoted-printable", form("--b", text, "Content-Transfer-Encoding: quoted-printable", "", "=C3=BC=\r\n=3D", "--b--"), actions.Values{Text: map[string][]string{"text": {"ü="}}}},
		{"no transfer encoding", form("--b", text, "Content-Transfer-Encoding: binary", "", "=41", "--b--"), actions.Values{Text: map[string][]string{"text": {"=41"}}}},
		{"file name ..", form("--b", `Content-Disposition: form-data; name="image"; filename="a/.."`, "", "x", "--b--"), actions.Values{
			Files: []actions.File{{Name: "image", Data: []byte("x")}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseMultipart(&request{body: []byte(tt.body)}, "b")
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Text == nil {
				tt.want.Text = map[string][]string{}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseMultipartErrors(t *testing.T) {
	const text = `Content-Disposition: form-data; name="text"`
	tests := map[string]struct{ body, boundary, want string }{
		"no boundary in the type":  {form("--b--"), "", "the boundary must have 1 to 70 bytes"},
		"long boundary":            {form("--b--"), strings.Repeat("b", 71), "the boundary must have 1 to 70 bytes"},
		"empty":                    {"", "b", "a boundary is missing"},
		"other boundary":           {form("--c", text, "", "1", "--c--"), "b", "a boundary is missing"},
		"cut off":                  {form("--b", text, "", "1"), "b", "a boundary is missing"},
		"cut off after a part":     {form("--b", text, "", "1", "--b"), "b", "a boundary is missing"},
		"transfer encoding":        {form("--b", text, "Content-Transfer-Encoding: gzip", "", "1", "--b--"), "b", `Content-Transfer-Encoding of a part is "gzip"`},
		"not base64":               {form("--b", text, "Content-Transfer-Encoding: base64", "", "a?", "--b--"), "b", "a part is not base64: illegal base64 data"},
		"not quoted-printable":     {form("--b", text, "Content-Transfer-Encoding: quoted-printable", "", "a\x01", "--b--"), "b", "a part is not quoted-printable"},
		"line feeds":               {"--b\n" + text + "\n\n1\n--b--", "b", "a boundary is missing"},
		"no end of the header":     {form("--b", text, "--b--"), "b", "the header of a part has no end"},
		"no header":                {form("--b", "", "1", "--b--"), "b", "the header of a part has no end"},
		"line without a colon":     {form("--b", text, "hello", "", "1", "--b--"), "b", "has a line without a colon"},
		"no disposition":           {form("--b", "X: y", "", "1", "--b--"), "b", "does not say Content-Disposition"},
		"other disposition":        {form("--b", `Content-Disposition: attachment; name="a"`, "", "1", "--b--"), "b", "does not say Content-Disposition"},
		"no name":                  {form("--b", `Content-Disposition: form-data`, "", "1", "--b--"), "b", "does not say Content-Disposition"},
		"long header":              {form("--b", text, "X: "+strings.Repeat("y", maxPartHeader), "", "1", "--b--"), "b", "more than 8192 bytes"},
		"many parts":               {strings.Repeat(form("--b", text, "", "1", ""), maxParts+1) + "--b--", "b", "more than 20000 parts"},
		"boundary of format verbs": {"--%d", "%d", "a boundary is missing"},
	}
	for name, tt := range tests {
		_, err := parseMultipart(&request{body: []byte(tt.body)}, tt.boundary)
		if e, ok := errors.AsType[*actions.Error](err); !ok || e.Code != actions.Invalid || !strings.Contains(e.Msg, tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// FuzzMultipart wants of what a writer wrote the same back, and of everything else no
// more than mime/multipart finds.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte(form("--b", `Content-Disposition: form-data; name="text"`, "", "1", "--b--")), "b")
	f.Add([]byte(form("--b", `Content-Disposition: form-data; name="a"; filename="x"`, "", "1\r\n--b", "--b--")), "b")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if v, err := parseMultipart(&request{body: body}, boundary); err == nil {
			checkParts(t, body, boundary, v)
		}
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		if w.SetBoundary(boundary) != nil || bytes.Contains(body, []byte("--"+boundary)) || strings.HasSuffix(boundary, " ") {
			return
		}
		part, err := w.CreateFormFile("image", "cat.png")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write(body)
		_ = w.Close()
		got, err := parseMultipart(&request{body: b.Bytes()}, boundary)
		if err != nil || len(got.Files) != 1 || !bytes.Equal(got.Files[0].Data, body) {
			t.Errorf("got %q, %v of a file %q with boundary %q", got.Files, err, body, boundary)
		}
	})
}

// checkParts compares the number and the content of parts with what the standard
// library reads, as far as that takes the body.
func checkParts(t *testing.T, body []byte, boundary string, v actions.Values) {
	t.Helper()
	var got, want []string
	for _, f := range v.Files {
		got = append(got, string(f.Data))
	}
	for _, texts := range v.Text {
		got = append(got, texts...)
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return // it is stricter about headers
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return
		}
		want = append(want, string(data))
	}
	if len(got) != len(want) {
		t.Errorf("%q: got %d parts %q, mime/multipart has %d %q", body, len(got), got, len(want), want)
	}
}
