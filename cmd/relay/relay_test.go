package relay

import (
	"bytes"
	"context"
	"strings"
	"testing"
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
