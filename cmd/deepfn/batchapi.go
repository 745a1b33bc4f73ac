package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/cmd/relay"
)

const (
	// askTime is the most time for one answer of a server: it looks at the store first.
	askTime = time.Minute
	// maxAnswer is how many bytes an answer may have.
	maxAnswer = 64 << 20
)

// A batchAPI talks to the batch predictions of a server.
type batchAPI struct {
	*settings
	server string
}

// base is the URL of the server.
func (a *batchAPI) base() (string, error) {
	text := cmp.Or(a.server, a.getenv(serverVariable), "http://"+relay.DefaultListen)
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", usageError{fmt.Errorf("--server %s: want a URL such as http://127.0.0.1:8080", text)}
	}
	return strings.TrimSuffix(text, "/"), nil
}

// ask makes a request and decodes the answer into a value, or into bytes. The errors are those of
// the server, and Unavailable if there is no answer.
func (a *batchAPI) ask(ctx context.Context, method, path string, body, into any) error {
	base, err := a.base()
	if err != nil {
		return err
	}
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return actions.Errorf(actions.Invalid, "the batch: %w", err)
		}
		sent = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, sent)
	if err != nil {
		return usageError{fmt.Errorf("--server %s: %w", base, err)}
	}
	if body != nil {
		req.Header.Set("Content-Type", jsonMediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return actions.Errorf(actions.Unavailable, "%s cannot be asked: %w; is 'deepfn serve' running there? --server or %s names another", base, err, serverVariable)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return actions.Errorf(actions.Unavailable, "%s: the answer breaks off: %w", base, err)
	case resp.StatusCode >= http.StatusMultipleChoices:
		return refusal(base, resp.StatusCode, data)
	}
	if raw, ok := into.(*[]byte); ok {
		*raw = data
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return actions.Errorf(actions.Unavailable, "%s%s: the answer is not deepfn's: %w", base, path, err)
	}
	return nil
}

// refusal is the error of a server.
func refusal(base string, status int, data []byte) error {
	var body struct {
		Error string       `json:"error"`
		Code  actions.Code `json:"code"`
	}
	if json.Unmarshal(data, &body) != nil || body.Error == "" {
		return actions.Errorf(actions.Unavailable, "%s answers %d: %.200s", base, status, strings.TrimSpace(string(data)))
	}
	return &actions.Error{Code: cmp.Or(body.Code, actions.Internal), Msg: body.Error}
}

func batchesOf(model string) string { return "/v2/models/" + url.PathEscape(model) + "/batch/" }

// models are the names of the server's models.
func (a *batchAPI) models(ctx context.Context) ([]string, error) {
	var doc struct {
		Models []struct {
			ID string `json:"id"`
		} `json:"models"`
	}
	if err := a.ask(ctx, http.MethodGet, "/v2/models/", nil, &doc); err != nil {
		return nil, err
	}
	names := make([]string, len(doc.Models))
	for i, m := range doc.Models {
		names[i] = m.ID
	}
	return names, nil
}

// find returns a job by its id, or by MODEL/ID, and where it is.
func (a *batchAPI) find(ctx context.Context, name string) (actions.Job, string, error) {
	var job actions.Job
	model, id, named := strings.Cut(name, "/")
	models := []string{model}
	if !named {
		id = name
		var err error
		if models, err = a.models(ctx); err != nil {
			return job, "", err
		}
	}
	for _, model := range models {
		path := batchesOf(model) + url.PathEscape(id)
		err := a.ask(ctx, http.MethodGet, path, nil, &job)
		if named || err == nil || actions.CodeOf(err) != actions.NotFound {
			return job, path, err
		}
	}
	return job, "", actions.Errorf(actions.NotFound, "the server has no batch %q; 'deepfn batch list' says which there are", name)
}

// submit has the server begin a batch.
func (a *batchAPI) submit(cmd *cobra.Command, model string, flags *batchFlags, watch bool) error {
	base, err := a.base()
	if err != nil {
		return err
	}
	in, err := flags.read(model)
	if err != nil {
		return err
	}
	if (isPath(flags.batch.Input.URL) || isPath(flags.batch.Output.URL)) && flags.spec == "" && !isLocalServer(base) {
		return usageError{fmt.Errorf("a path is of this machine, and the server is %s; name URLs", base)}
	}
	var job actions.Job
	if err := a.ask(cmd.Context(), http.MethodPost, batchesOf(model), in, &job); err != nil {
		return err
	}
	if watch {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "deepfn: batch", job.ID)
		return a.follow(cmd, job.ID, batchesOf(model)+job.ID)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), job.ID)
	return err
}

// isLocalServer says whether a server is on this machine.
func isLocalServer(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
