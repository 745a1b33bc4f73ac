package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/invoker"
)

func invokeCommand(s *settings) *cobra.Command {
	var call invocation
	cmd := &cobra.Command{
		Use:   "invoke MODEL [NAME=VALUE | NAME=@FILE | NAME:=JSON]...",
		Short: "Predicts once, here, and prints the answer",
		Long: "Predicts once, here, and prints the answer. NAME=@- reads standard input; NAME=@@x is the\n" +
			"text \"@x\". A JSON answer is printed; another is written to --output or to its own file name.\n\n" + exitHelp,
		Example: "  deepfn invoke ocr-line image=@line.png\n" +
			"  deepfn invoke ./my-model image=@cat.jpg top_k:=3",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			call.model, call.stdin, call.stdout, call.stderr = args[0], cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			values, err := parseValues(args[1:], call.stdin)
			if err != nil {
				return err
			}
			h, err := s.open()
			if err != nil {
				return err
			}
			return call.run(cmd.Context(), h, values)
		},
	}
	cmd.Flags().StringVarP(&call.output, "output", "o", "", "file for the answer; - is standard output")
	cmd.Flags().StringVar(&call.accept, "accept", "", "media type of the answer, as in HTTP's Accept header")
	cmd.Flags().DurationVar(&call.timeout, "timeout", 0, "give up after this time (default: never)")
	return cmd
}

// An invocation is one run of the invoke command.
type invocation struct {
	model, output, accept string
	timeout               time.Duration
	stdin                 io.Reader
	stdout, stderr        io.Writer
}

// run predicts on an instance that lives as long as the call.
func (c *invocation) run(ctx context.Context, h *house, values actions.Values) error {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	m, err := h.openModel(ctx, c.model)
	if err != nil {
		return err
	}
	defer h.close()
	req, err := request(m, values)
	if err != nil {
		return fileHint(err, values)
	}
	for _, f := range req.Files {
		h.maxPayload += int64(len(f.Data))
	}
	pool := invoker.New(invoker.Config{Catalog: one{m}, Start: h.start})
	var resp actions.Response
	var takes *actions.Signature
	if err = pool.Warm(ctx, m.Name, 1); err == nil {
		takes = taken(m, pool.Info(m.Name))
		c.warnUnknown(takes, values)
		req.Accept = c.accept
		resp, err = pool.Invoke(ctx, req)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if closeErr := pool.Close(closing); err == nil {
		err = closeErr
	}
	c.printLogs(resp, err)
	if err != nil {
		return fileHint(takesHint(err, takes), values)
	}
	return c.write(resp)
}

// request makes a request of the values of a command line.
func request(m actions.Model, v actions.Values) (actions.Request, error) {
	req := actions.Request{Model: m.Name, Files: v.Files}
	var err error
	if !m.ParsesArguments() {
		req.Args, req.Files, err = m.Bind(v)
		return req, err
	}
	// A command line has no query string and no headers: what is JSON in it may be any
	// argument, as on OpenWhisk, which says so by its own words.
	req.Texts = []actions.Text{{Origin: actions.FromContext, Name: "__OW_ACTION_NAME", Value: m.Name}}
	for _, name := range slices.Sorted(maps.Keys(v.Text)) {
		for _, text := range v.Text[name] {
			req.Texts = append(req.Texts, actions.Text{Origin: actions.FromForm, Name: name, Value: text})
		}
	}
	req.Args, err = json.Marshal(v.JSON)
	return req, err
}

// taken is what predict takes as the loaded model itself says, or nil for one that does
// not say, or does not have it.
func taken(m actions.Model, info json.RawMessage) *actions.Signature {
	var about actions.Description
	if (m.Runtime != actions.Python && m.Runtime != actions.HTTP) || json.Unmarshal(info, &about) != nil {
		return nil
	}
	return about.Predict
}

// described lists the arguments of a signature for people.
func described(s *actions.Signature) string {
	var names []string
	for _, p := range s.Parameters {
		name := p.Name
		if p.Required {
			name += " (required)"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, ", ")
}

// warnUnknown prints a warning of values that the model does not look at.
func (c *invocation) warnUnknown(takes *actions.Signature, values actions.Values) {
	if takes == nil || takes.Open {
		return
	}
	given := map[string]bool{}
	for name := range values.Text {
		given[name] = true
	}
	for name := range values.JSON {
		given[name] = true
	}
	for _, f := range values.Files {
		given[f.Name] = true
	}
	for _, p := range takes.Parameters {
		delete(given, p.Name)
	}
	if len(given) > 0 {
		names := fmt.Sprintf("%q", slices.Sorted(maps.Keys(given)))
		_, _ = fmt.Fprintf(c.stderr, "deepfn: warning: the model does not look at %s; it takes %s\n", strings.Trim(names, "[]"), described(takes))
	}
}

// takesHint adds what the model takes to the error that an argument is missing.
func takesHint(err error, takes *actions.Signature) error {
	if takes == nil || !strings.Contains(err.Error(), "Missing data for required field") {
		return err
	}
	return hinted(err, "the model takes "+described(takes))
}

// hinted adds a hint to an error, whose message may be a sentence with a stop.
func hinted(err error, hint string) error {
	msg := strings.TrimSuffix(err.Error(), ".") + "; " + hint
	return &actions.Error{Code: actions.CodeOf(err), Msg: msg, Err: err}
}

// fileHint adds what was probably meant when a value is the name of a file.
func fileHint(err error, values actions.Values) error {
	for name, texts := range values.Text {
		for _, text := range texts {
			if info, statErr := os.Stat(text); statErr == nil && info.Mode().IsRegular() {
				return hinted(err, fmt.Sprintf("for the file write %s=@%s", name, text))
			}
		}
	}
	return err
}

// printLogs prints what the model printed.
func (c *invocation) printLogs(resp actions.Response, err error) {
	logs := resp.Logs
	if e, ok := errors.AsType[*actions.Error](err); ok {
		logs = append(logs, e.Logs...)
	}
	for _, line := range logs {
		_, _ = fmt.Fprintln(c.stderr, line.Text)
	}
}

// write prints the answer or puts it into a file.
func (c *invocation) write(resp actions.Response) error {
	isJSON := resp.ContentType == "application/json"
	data := resp.Data
	if isJSON {
		data = append(bytes.TrimSpace(data), '\n')
	}
	name := c.output
	if name == "-" || (name == "" && isJSON) {
		_, err := c.stdout.Write(data)
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if name == "" { // the model chose the name: nothing of the user's is overwritten
		name, flags = answerName(resp), os.O_WRONLY|os.O_CREATE|os.O_EXCL
	}
	if err := writeFile(name, flags, data); err != nil {
		return actions.Errorf(actions.Failed, "the answer could not be written: %w; name another file with --output", err)
	}
	_, err := fmt.Fprintf(c.stderr, "%s: %d bytes of %s\n", name, len(data), resp.ContentType)
	return err
}

func writeFile(name string, flags int, data []byte) error {
	f, err := os.OpenFile(name, flags, 0o600) //nolint:gosec // the file that the user named
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// answerName returns a file name in the current folder for an answer that is no JSON.
func answerName(resp actions.Response) string {
	if base := filepath.Base(resp.Filename); resp.Filename != "" && base != "." && base != "/" {
		return base
	}
	if exts, err := mime.ExtensionsByType(resp.ContentType); err == nil && len(exts) > 0 {
		return "answer" + exts[0]
	}
	return "answer.bin"
}

// parseValues reads NAME=VALUE, NAME=@FILE and NAME:=JSON.
func parseValues(args []string, stdin io.Reader) (actions.Values, error) {
	v := actions.Values{Text: map[string][]string{}, JSON: map[string]json.RawMessage{}}
	for _, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		if !found || name == "" || name == ":" {
			return v, usageError{fmt.Errorf("argument %q: want NAME=VALUE, NAME=@FILE or NAME:=JSON", arg)}
		}
		path, isFile := strings.CutPrefix(value, "@")
		switch jsonName, isJSON := strings.CutSuffix(name, ":"); {
		case isJSON && !json.Valid([]byte(value)):
			return v, usageError{fmt.Errorf("argument %q: %s is not JSON", arg, value)}
		case isJSON:
			v.JSON[jsonName] = json.RawMessage(value)
		case isFile && !strings.HasPrefix(path, "@"):
			data, err := readFile(path, stdin)
			if err != nil {
				return v, err
			}
			v.Files = append(v.Files, actions.File{
				Name: name, Filename: filepath.Base(path), ContentType: mime.TypeByExtension(filepath.Ext(path)), Data: data,
			})
		case isFile:
			v.Text[name] = append(v.Text[name], path)
		default:
			v.Text[name] = append(v.Text[name], value)
		}
	}
	return v, nil
}

func readFile(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(stdin)
		if err != nil {
			return nil, actions.Errorf(actions.Failed, "standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file that the user named
	if err != nil {
		return nil, actions.Errorf(actions.NotFound, "the file could not be read: %w", err)
	}
	return data, nil
}
