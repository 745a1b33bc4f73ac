package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/node"
)

// run runs the command with variables of the environment, whose context has ended: what is
// right so far ends at once.
func run(t *testing.T, env map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code = Main(ctx, Program{Args: args, Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string { return env[name] }})
	return code, stdout.String(), stderr.String()
}

func TestCommandLine(t *testing.T) {
	const node = "unix:///no/such/node.sock"
	for _, test := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		text string // of both streams
	}{
		{"help", nil, []string{"--help"}, 0, "--node"},
		{"version", nil, []string{"--version"}, 0, "deepfn-relay "},
		{"no node", nil, nil, 2, "--node or DEEPFN_NODE"},
		{"no URL", nil, []string{"--node", "http://localhost"}, 2, "unix:///PATH"},
		{"no absolute path", nil, []string{"--node", "node.sock"}, 2, "unix:///PATH"},
		{"two models", nil, []string{"a", "b", "--node", node}, 2, "one MODEL at most"},
		{"no such flag", nil, []string{"--instances", "2"}, 2, "--instances"},
		{"a wrong variable", map[string]string{"DEEPFN_NODE": node, "DEEPFN_WARM": "x"}, nil, 2, "DEEPFN_WARM"},
		{"a wrong time", map[string]string{"DEEPFN_NODE": node, "DEEPFN_NODE_WAIT": "x"}, nil, 2, "DEEPFN_NODE_WAIT"},
		{"no time", nil, []string{"--node", node, "--node-wait", "0s"}, 2, "--node-wait"},
		{"a negative warm", nil, []string{"--node", node, "--warm", "-1"}, 2, "--warm"},
		{"a wrong level", nil, []string{"--node", node, "--log-level", "loud"}, 2, "--log-level"},
		{"a wrong platform", map[string]string{"DEEPFN_NODE": node, "__OW_RUNTIME_PLATFORM": "x"}, nil, 2, "__OW_RUNTIME_PLATFORM"},
		{"a wrong port", map[string]string{"DEEPFN_NODE": node, "DEEPFN_LISTEN": "x", "PORT": "1"}, nil, 2, "DEEPFN_LISTEN"},
		{"a sink that is none", map[string]string{"DEEPFN_NODE": node, "K_SINK": "broker"}, nil, 2, "the sink is no http or https URL"},
		{"a dead-letter sink that is none", map[string]string{"DEEPFN_NODE": node, "DEEPFN_DEAD_LETTER_SINK": "letters"}, nil, 2, "dead-letter sink"},
		{"wrong overrides", map[string]string{"DEEPFN_NODE": node, "K_CE_OVERRIDES": "x"}, nil, 2, "K_CE_OVERRIDES"},
		{"wrong certificates", map[string]string{"DEEPFN_NODE": node, "K_CA_CERTS": "x"}, nil, 2, "K_CA_CERTS"},
		{"what a SinkBinding gives", map[string]string{"DEEPFN_NODE": node, "DEEPFN_LISTEN": "127.0.0.1:0", "DEEPFN_LOG_LEVEL": "info", "K_SINK": "http://broker.svc/a", "K_CE_OVERRIDES": `{"extensions":{"a":"b"}}`}, nil, 0, "listening"},
		{"all from the environment", map[string]string{"DEEPFN_NODE": node, "DEEPFN_LISTEN": "127.0.0.1:0", "DEEPFN_MODEL": "m", "DEEPFN_LOG_LEVEL": "info"}, nil, 0, "model=m"},
		{"a healthcheck of nobody", map[string]string{"DEEPFN_LISTEN": "127.0.0.1:1"}, []string{"healthcheck"}, 4, "no server answers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errs := run(t, test.env, test.args...)
			if code != test.code || !strings.Contains(out+errs, test.text) {
				t.Errorf("got %d, %q, %q; want %d and %q", code, out, errs, test.code, test.text)
			}
		})
	}
}

func TestSocketPath(t *testing.T) {
	for url, want := range map[string]string{
		"unix:///run/deepfn/node.sock": "/run/deepfn/node.sock",
		"/run/node.sock":               "/run/node.sock",
		"unix://run/node.sock":         "",
		"tcp:///run/node.sock":         "",
		"":                             "",
	} {
		if got, err := SocketPath("--node", url); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v; want %q", url, got, err, want)
		}
	}
}

// An emptyNode is the pool and the catalog of a node that has no models.
type emptyNode struct {
	node.Pool
	node.Catalog
}

func (emptyNode) Keep(_ context.Context, model string, _ int) error {
	return actions.Errorf(actions.NotFound, "there is no model %q", model)
}

func (emptyNode) Info(string) json.RawMessage { return nil }

// TestNodeHasNoSuchModel ends a relay of a model that the node does not have.
func TestNodeHasNoSuchModel(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	ln, err := node.Listen(t.Context(), socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	n := node.New(node.Config{Pool: emptyNode{}, Catalog: emptyNode{}})
	go func() { done <- n.Serve(ctx, ln) }() // ends with stop
	var errs bytes.Buffer
	code := Main(t.Context(), Program{
		Args: []string{"none", "--node", "unix://" + socket, "--listen", "127.0.0.1:0"}, Stdout: io.Discard, Stderr: &errs,
		Getenv: func(string) string { return "" },
	})
	if code != exitNotFound || !strings.Contains(errs.String(), `no model "none"`) {
		t.Errorf("got %d, %s; want %d and that there is no such model", code, errs.String(), exitNotFound)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
