package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// tryOnce sends the --try request to the server as any client would, and prints the
// command line that does the same, the answer, and what else there is to try.
func (srv *server) tryOnce(ctx context.Context, addr string) error {
	values, err := parseValues(srv.try, strings.NewReader(""))
	if err != nil {
		return err
	}
	base := "http://" + addr
	url := base + "/v2/models/" + srv.model + "/predict/"
	answer, err := post(ctx, url, values)
	if err != nil {
		return err
	}
	var curl strings.Builder
	for _, arg := range srv.try {
		fmt.Fprintf(&curl, " -F '%s'", arg)
	}
	_, err = fmt.Fprintf(srv.stdout, `deepfn %[1]s serves %[2]s on %[3]s

$ curl%[4]s %[5]s
%[6]s

Next, from another terminal:
  # the DEEPaaS V2 API
  curl%[4]s %[5]s
%[7]s  # what the model is, and on which device it runs
  curl %[3]s/v2/models/%[2]s/
  # what Prometheus reads
  curl %[3]s/metrics

Ctrl-C ends the server.
`, release, srv.model, base, curl.String(), url, answer, srv.whiskHint(base))
	return err
}

// whiskHint returns the command line that calls /run as OpenWhisk does, for a request
// of one file.
func (srv *server) whiskHint(base string) string {
	if len(srv.try) != 1 {
		return ""
	}
	name, path, isFile := strings.Cut(srv.try[0], "=@")
	if !isFile {
		return ""
	}
	return fmt.Sprintf(`  # the same as OpenWhisk calls it
  echo '{"value":{"%s":"'$(base64 -w0 %s)'"}}' | curl -d @- %s/run
`, name, path, base)
}

// post sends the values as a form and returns the answer's body on one line.
func post(ctx context.Context, url string, values actions.Values) (string, error) {
	body, contentType, err := form(values)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return "", fmt.Errorf("post %s: %w", url, err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("post %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the server answered %s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	return string(bytes.TrimSpace(answer)), nil
}

// form encodes the values as multipart/form-data.
func form(values actions.Values) (*bytes.Buffer, string, error) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, f := range values.Files {
		part, err := w.CreateFormFile(f.Name, f.Filename)
		if err == nil {
			_, err = part.Write(f.Data)
		}
		if err != nil {
			return nil, "", fmt.Errorf("form: %w", err)
		}
	}
	texts := values.Text
	for name, raw := range values.JSON {
		texts[name] = append(texts[name], string(raw))
	}
	for name, all := range texts {
		for _, v := range all {
			if err := w.WriteField(name, v); err != nil {
				return nil, "", fmt.Errorf("form: %w", err)
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, "", fmt.Errorf("form: %w", err)
	}
	return &buf, w.FormDataContentType(), nil
}
