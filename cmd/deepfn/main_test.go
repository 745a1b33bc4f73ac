package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be deepfn: for the scripts, for the servers that tests
// start, and for the children that those start.
func TestMain(m *testing.M) {
	if os.Getenv("DEEPFN_TEST_MAIN") == "1" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"deepfn": main})
}

// environ returns what deepfn needs in a test: the fetched library and models, no
// network, and nothing of the user's own settings.
func environ(t *testing.T) []string {
	t.Helper()
	library := os.Getenv("DEEPFN_TEST_ONNXRUNTIME")
	if library == "" {
		t.Fatal("DEEPFN_TEST_ONNXRUNTIME is not set; run 'make test', which fetches what the tests need and says where it is")
	}
	var env []string
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "DEEPFN_") || name == "DEEPFN_CACHE" {
			env = append(env, kv)
		}
	}
	return append(env, "DEEPFN_TEST_MAIN=1", "DEEPFN_OFFLINE=1", "DEEPFN_ONNXRUNTIME="+library, "DEEPFN_LOG_LEVEL=info", "GORACE=atexit_sleep_ms=0")
}

// A process is a deepfn that serves, started by a test.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	base string   // http://127.0.0.1:port
	env  []string // more variables for it
	temp string   // its folder for temporary files, if it has one of its own
	data string   // its folder for data, likewise

	ended  chan struct{}
	code   int // once ended
	stdout syncBuffer
	stderr syncBuffer
	told   bool // the end of stderr, after a failure
}

// serve starts deepfn serve on a free port and waits until it listens. The test's
// cleanup ends it.
func serve(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, ended: make(chan struct{})}
	return p.serve(&p.stdout, args...)
}

func (p *process) serve(stdout io.Writer, args ...string) *process {
	p.t.Helper()
	return p.start(stdout, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
}

// start starts a command that listens.
func (p *process) start(stdout io.Writer, args ...string) *process {
	t := p.t
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := slices.Concat(environ(t), []string{"DEEPFN_DATA=" + t.TempDir()}, p.env)
	if err := p.launch(exe, env, stdout, args...); err != nil {
		t.Fatal(err)
	}
	return p
}

// launch starts a program and waits until it says where it listens. The test's cleanup ends it.
func (p *process) launch(program string, env []string, stdout io.Writer, args ...string) error {
	p.cmd = exec.Command(program, args...) //nolint:noctx // cleanup ends it
	p.cmd.Env, p.cmd.Stdout = env, stdout
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	address := make(chan string, 1)
	go p.follow(stderr, address) // ends when the server has
	p.t.Cleanup(p.kill)
	select {
	case addr := <-address:
		p.base = "http://" + addr
		return nil
	case <-p.ended:
		return fmt.Errorf("%s %s ended with %d: %s", filepath.Base(program), args[0], p.code, p.stderr.String())
	case <-time.After(time.Minute):
		return fmt.Errorf("%s %s does not listen after a minute: %s", filepath.Base(program), args[0], p.stderr.String())
	}
}

// follow copies stderr, finds the address in it, and reaps the process.
func (p *process) follow(stderr io.Reader, address chan<- string) {
	found := regexp.MustCompile(`msg=listening address=(\S+)`)
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		_, _ = p.stderr.Write([]byte(line))
		if m := found.FindStringSubmatch(line); m != nil {
			address <- m[1]
		}
		if err != nil {
			break
		}
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); errors.As(err, &exit) {
		p.code = exit.ExitCode()
	}
	close(p.ended)
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatalf("deepfn serve does not end after SIGTERM: %s", p.stderr.String())
	}
	return p.code
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	if p.t.Failed() && !p.told {
		p.told = true
		log := p.stderr.String()
		p.t.Logf("the end of the server's stderr:\n%s", log[max(0, len(log)-4000):])
	}
}

// A syncBuffer is a buffer that may be read while a process writes to it.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !condition() {
		if ctx.Err() != nil {
			t.Fatalf("after a minute: not %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polls; nothing depends on the length
	}
}
