package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/command"
)

const (
	// firstPoll is the time between two looks whether the server is ready; it grows to
	// lastPoll.
	firstPoll = 20 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
	// lookTime bounds one look: a server that takes a connection and does not answer is
	// asked again.
	lookTime = 5 * time.Second
	// maxDocument is the most bytes of a list of models or a swagger.json.
	maxDocument = 16 << 20
	// endGrace is how long a server that has hung up may take to end, and one that was
	// told to.
	endGrace = 500 * time.Millisecond
)

// A server is one that was started, or found, and its model.
type server struct {
	cmd      *command.Command // nil for one that was found
	base     string           // URL, without a slash at its end
	model    string           // in its routes
	metadata json.RawMessage
	client   *http.Client
}

// newClient returns a client for one server. Connections are not kept: a server may
// close one in the moment in which it gets the next request, which could not be repeated
// without danger.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			first := via[0]
			if len(via) > 3 || req.Method != first.Method || req.URL.Host != first.URL.Host || req.URL.Scheme != first.URL.Scheme {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// startServer starts the server of a spec and waits until it knows its model.
func (p *Program) startServer(ctx context.Context) (*server, error) {
	if d, _ := duration("ready", p.spec.Ready); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, fmt.Errorf("ready: %v are over", d))
		defer cancel()
	}
	port, err := p.choosePort(ctx)
	if err != nil {
		return nil, err
	}
	host := p.spec.Host
	if host == "" {
		host = defaultHost
	}
	s := &server{
		base:   (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: path.Join("/", p.spec.BasePath)}).String(),
		client: newClient(),
	}
	s.base = strings.TrimSuffix(s.base, "/")
	if len(p.spec.Command) > 0 {
		if s.cmd, err = command.Start(p.commandConfig(port)); err != nil {
			return nil, err
		}
	}
	if err := s.await(ctx, p.spec.Model); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// choosePort returns the port of the server, which nobody else may have.
func (p *Program) choosePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	port := 0
	host := p.spec.Host
	if host == "" {
		host = defaultHost
	}
	if !p.spec.wantsPort() {
		port = p.spec.port()
		if len(p.spec.Command) == 0 {
			return strconv.Itoa(port), nil
		}
	}
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return "", actions.Errorf(actions.Conflict, "http: the server cannot have its port; write {port} into command or env and it gets a free one: %w", err)
	}
	_, text, err := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	return text, err
}

// commandConfig returns the command with the port in its places.
func (p *Program) commandConfig(port string) command.Config {
	argv := make([]string, len(p.spec.Command))
	for i, arg := range p.spec.Command {
		argv[i] = strings.ReplaceAll(arg, portMark, port)
	}
	env := make(map[string]string, len(p.spec.Env))
	for name, value := range p.spec.Env {
		env[name] = strings.ReplaceAll(value, portMark, port)
	}
	dir := p.spec.WorkingDir
	if dir != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(p.setup.Dir, dir)
	}
	return command.Config{Argv: argv, Folder: p.setup.Dir, Dir: dir, Env: command.Environ(env, p.setup.Env)}
}

// await waits until the server lists its models, and finds its own among them.
func (s *server) await(ctx context.Context, name string) error {
	var ended <-chan struct{}
	if s.cmd != nil {
		ended = s.cmd.Done()
	}
	for pause := firstPoll; ; pause = min(pause*3/2, lastPoll) {
		list, err := s.look(ctx, "/v2/models/")
		if err == nil {
			if s.ended() {
				// Somebody else answers on its port.
				return actions.Errorf(actions.Failed, "http: the server ended before it was ready: %s", s.cmd.State())
			}
			return s.find(list, name)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return awaitError(ctx, s.base, err)
		case <-ended:
			timer.Stop()
			return actions.Errorf(actions.Failed, "http: the server ended before it was ready: %s", s.cmd.State())
		case <-timer.C:
		}
	}
}

// awaitError is the error of a server that was not ready in time, with what it answered
// last.
func awaitError(ctx context.Context, base string, last error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return actions.Errorf(actions.Deadline, "http: the server does not list its models in time (%w): GET %s/v2/models/: %w", context.Cause(ctx), base, last)
	}
	return actions.Errorf(actions.Canceled, "http: the start of the server was canceled: %w", ctx.Err())
}

// look gets a document.
func (s *server) look(ctx context.Context, route string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+route, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	b, err := readAll(resp.Body, maxDocument)
	if err == nil && !json.Valid(b) {
		err = errors.New("it is not JSON")
	}
	return b, err
}

// find finds the model in the server's list.
func (s *server) find(list []byte, name string) error {
	var document struct {
		Models []json.RawMessage `json:"models"`
	}
	if err := json.Unmarshal(list, &document); err != nil || document.Models == nil {
		return actions.Errorf(actions.Failed, "http: the server's list of models is not one: %s", excerpt(list))
	}
	var names []string
	found := -1
	for i, raw := range document.Models {
		route := routeName(raw)
		names = append(names, route)
		if route != "" && (route == name || name == "" && len(document.Models) == 1) {
			found = i
		}
	}
	switch {
	case found >= 0:
		s.model, s.metadata = names[found], withoutLinks(document.Models[found])
		return nil
	case name == "":
		return actions.Errorf(actions.Invalid, "http: model: the server has %d models, %q; name one", len(names), names)
	}
	return actions.Errorf(actions.NotFound, "http: the server has no model %q but %q", name, names)
}

// routeName returns the name that a listed model has in the server's routes: the end of
// its own link, because the module may say any other name.
func routeName(raw json.RawMessage) string {
	var m struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Links []struct {
			Rel  string `json:"rel"`
			Href string `json:"href"`
		} `json:"links"`
	}
	_ = json.Unmarshal(raw, &m) // what is not as it should be stays empty
	for _, l := range m.Links {
		u, err := url.Parse(l.Href)
		if err == nil && l.Rel == "self" && strings.Contains(u.Path, "/models/") {
			if name := path.Base(u.Path); name != "models" && name != "." && name != "/" {
				return name
			}
		}
	}
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// withoutLinks returns the metadata of a model without the routes of the server, which
// mean nothing to our callers.
func withoutLinks(raw json.RawMessage) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil
	}
	delete(members, "links")
	b, err := json.Marshal(members)
	if err != nil {
		return nil
	}
	return b
}

// route returns the URL of something of the model.
func (s *server) route(rest string) string {
	return s.base + "/v2/models/" + url.PathEscape(s.model) + "/" + rest
}

// ended reports whether the server's process has ended.
func (s *server) ended() bool { return s.cmd != nil && s.cmd.Ended() }

// end kills the server.
func (s *server) end() {
	if s.cmd != nil {
		s.cmd.Kill()
	}
}

// stop lets the server end by itself for a moment.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Terminate()
	select {
	case <-s.cmd.Done():
	case <-time.After(endGrace):
		s.cmd.Kill()
	}
}
