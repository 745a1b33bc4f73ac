package actionloop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/actionloop"
	"github.com/deepfn/deepfn/runtime/command"
	"github.com/deepfn/deepfn/runtime/worker"
)

// The variables that say what the test binary is.
const (
	childVariable      = "DEEPFN_TEST_CHILD"      // the child of a worker
	executableVariable = "DEEPFN_TEST_EXECUTABLE" // an executable, with the fault of its start
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(executableVariable) != "":
		executable(os.Getenv(executableVariable))
	case os.Getenv(childVariable) != "":
		p := actionloop.New()
		err := worker.Serve(context.Background(), p)
		p.Close()
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The starts of the executable.
const (
	startPlain   = "plain"
	startExit    = "exit"    // says why and exits, when it has run for some milliseconds
	startEarly   = "early"   // writes a line that nobody asked for
	startAck     = "ack"     // says that it is ready
	startNoise   = "noise"   // says that it is ready, with warnings
	startRefuse  = "refuse"  // says that it is not ready
	startNever   = "never"   // does not say anything, for ever
	startClose   = "close"   // closes descriptor 3
	startOnce    = "once"    // exits after each answer
	startSecond  = "second"  // exits at once when it was started before
	startDeaf    = "deaf"    // never reads
	startOrderly = "orderly" // touches a file when there is nothing more to read
	startSleep   = "sleep"   // is a grandchild
	startMute    = "mute"    // says that it is ready, without a standard input, and lives on
	startShut    = "shut"    // the first time, closes its standard input when a request comes
	startHalf    = "half"    // closes its standard input in the middle of a request
)

// knobs are the arguments of the executable: what it does instead of an echo.
type knobs struct {
	Raw    string `json:"raw,omitempty"`    // to write to descriptor 3
	Bytes  []byte `json:"bytes,omitempty"`  // the same, for what is not UTF-8
	Stderr string `json:"stderr,omitempty"` // to print
	Stdout string `json:"stdout,omitempty"`
	Touch  string `json:"touch,omitempty"` // a file to make at the beginning
	Until  string `json:"until,omitempty"` // a file to wait for
	Exit   int    `json:"exit,omitempty"`
	After  bool   `json:"after,omitempty"` // exit after the answer
	Kill   bool   `json:"kill,omitempty"`
	Close  bool   `json:"close,omitempty"`  // descriptor 3
	Deafen bool   `json:"deafen,omitempty"` // close the standard input, answer, and live on
	Hang   bool   `json:"hang,omitempty"`
	Child  bool   `json:"child,omitempty"` // start a process and answer its id
	Late   string `json:"late,omitempty"`  // a file; when it exists, a second line comes
	Size   int    `json:"size,omitempty"`  // of the answer
	PID    bool   `json:"pid,omitempty"`   // answer with the process id
	Env    string `json:"env,omitempty"`   // answer with a variable
	Dir    bool   `json:"dir,omitempty"`   // answer with the working directory
}

// request returns a request with these arguments.
func (k knobs) request() actions.Request {
	b, err := json.Marshal(k)
	if err != nil {
		panic(err)
	}
	return actions.Request{Args: b}
}

// executable is the other program.
func executable(start string) {
	reply := os.NewFile(3, "reply")
	begin(start, reply)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		b, err := in.ReadBytes('\n')
		if err != nil {
			if start == startOrderly {
				_ = os.WriteFile(os.Getenv("ORDERLY"), nil, 0o600)
			}
			os.Exit(0)
		}
		var request struct{ Value json.RawMessage }
		if err := json.Unmarshal(b, &request); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "not JSON:", err)
			os.Exit(9)
		}
		var k knobs
		_ = json.Unmarshal(request.Value, &k)
		k.before(reply)
		_, _ = reply.Write(k.answer(b))
		k.behind(reply)
		if start == startOnce {
			os.Exit(0)
		}
	}
}

func begin(start string, reply io.Writer) {
	first := true
	if name := os.Getenv("STARTS"); name != "" {
		f, _ := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		_, _ = f.WriteString("x")
		fi, _ := f.Stat()
		first = fi.Size() == 1
		_ = f.Close()
	}
	switch start {
	case startExit:
		time.Sleep(6 * time.Millisecond)
		_, _ = fmt.Fprintln(os.Stderr, "no weights here")
		os.Exit(3)
	case startEarly:
		_, _ = io.WriteString(reply, "{\"hello\":1}\n")
	case startNoise:
		_, _ = fmt.Fprintln(os.Stderr, "warning: something is old")
		_, _ = fmt.Fprintln(os.Stdout, "loading")
		_, _ = io.WriteString(reply, "{\"ok\":true}\n")
	case startAck:
		if os.Getenv("__OW_WAIT_FOR_ACK") == "" {
			os.Exit(8)
		}
		_, _ = io.WriteString(reply, "{\"ok\":true}\n")
	case startRefuse:
		_, _ = io.WriteString(reply, "{\"ok\":false,\"error\":\"no GPU\"}\n")
	case startClose:
		_ = os.NewFile(3, "reply").Close()
		hang()
	case startNever, startSleep, startDeaf:
		hang()
	case startMute:
		_ = os.Stdin.Close()
		_, _ = io.WriteString(reply, "{\"ok\":true}\n")
		hang()
	case startShut:
		if first {
			for !pending(0) {
				time.Sleep(time.Millisecond)
			}
			_ = os.Stdin.Close()
			hang()
		}
	case startHalf:
		if first {
			_, _ = io.ReadFull(os.Stdin, make([]byte, 100))
			_ = os.Stdin.Close()
			hang()
		}
	case startSecond:
		if !first {
			_, _ = fmt.Fprintln(os.Stderr, "not twice")
			os.Exit(4)
		}
		_, _ = io.WriteString(reply, "{\"ok\":true}\n")
	}
}

func (k knobs) before(reply *os.File) {
	_, _ = fmt.Fprint(os.Stderr, k.Stderr)
	_, _ = fmt.Fprint(os.Stdout, k.Stdout)
	if k.Touch != "" {
		_ = os.WriteFile(k.Touch, nil, 0o600)
	}
	if k.Until != "" {
		await(k.Until)
	}
	if k.Close {
		_ = reply.Close()
	}
	if k.Deafen {
		_ = os.Stdin.Close()
	}
	if k.Hang || k.Close {
		hang()
	}
	if k.Kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		hang()
	}
	if k.Exit != 0 && !k.After {
		_, _ = reply.WriteString(k.Raw)
		os.Exit(k.Exit)
	}
}

func (k knobs) answer(request []byte) []byte {
	switch {
	case k.Bytes != nil:
		return k.Bytes
	case k.Raw != "":
		return []byte(k.Raw)
	case k.Size > 0:
		return fmt.Appendf(nil, "{\"x\":\"%s\"}\n", bytes.Repeat([]byte("x"), k.Size-8))
	case k.PID:
		return fmt.Appendf(nil, "{\"pid\":%d}\n", os.Getpid())
	case k.Env != "":
		return fmt.Appendf(nil, "[%q]\n", os.Getenv(k.Env))
	case k.Dir:
		dir, _ := os.Getwd()
		return fmt.Appendf(nil, "[%q]\n", dir)
	case k.Child:
		cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), executableVariable+"="+startSleep)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, []*os.File{os.NewFile(3, "reply")}
		if err := cmd.Start(); err != nil {
			return fmt.Appendf(nil, "[%q]\n", err)
		}
		return fmt.Appendf(nil, "{\"pid\":%d}\n", cmd.Process.Pid)
	}
	return request
}

func (k knobs) behind(reply io.Writer) {
	if k.After {
		os.Exit(k.Exit)
	}
	if k.Deafen {
		hang()
	}
	if k.Late != "" {
		await(k.Late)
		_, _ = io.WriteString(reply, "{\"late\":true}\n")
		_ = os.WriteFile(k.Late+".done", nil, 0o600)
		hang()
	}
}

func hang() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	for {
		time.Sleep(time.Hour)
	}
}

func await(name string) {
	for !exists(name) {
		time.Sleep(time.Millisecond)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// model is an action whose executable is this test binary.
func model(start string, env ...string) actions.Model {
	spec := actionloop.Spec{
		Command: []string{"/proc/self/exe"},
		Env:     map[string]string{executableVariable: start, "GORACE": "atexit_sleep_ms=0"},
		Settle:  "1ms",
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		spec.Env[name] = value
	}
	switch start {
	case startAck, startNoise, startRefuse, startNever, startSecond, startMute:
		spec.Ack = true
	case startExit, startClose, startEarly:
		spec.Settle = "20s" // they are noticed long before
	}
	return withSpec(spec)
}

func withSpec(spec actionloop.Spec) actions.Model {
	raw, err := json.Marshal(spec)
	if err != nil {
		panic(err)
	}
	return actions.Model{Name: "test", Runtime: actions.Executable, Spec: raw}
}

// config is that of a worker for a model.
func config(tb testing.TB, m actions.Model) worker.Config {
	tb.Helper()
	const limit = 4 << 20
	setup, err := json.Marshal(command.NewSetup(m, limit))
	if err != nil {
		tb.Fatal(err)
	}
	return worker.Config{
		Argv: []string{"/proc/self/exe"}, Env: []string{childVariable + "=1", "GORACE=atexit_sleep_ms=0"},
		Setup: setup, MaxPayload: 2 * limit, CancelGrace: patience,
	}
}

// start starts a worker that ends with the test.
func start(tb testing.TB, cfg worker.Config) *worker.Worker {
	tb.Helper()
	w, err := worker.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatalf("Start: %v", err)
	}
	tb.Cleanup(func() { _ = w.Close() })
	return w
}

// startModel starts a worker for a model.
func startModel(tb testing.TB, m actions.Model) *worker.Worker {
	tb.Helper()
	return start(tb, config(tb, m))
}

// call runs a call that has to succeed.
func call(tb testing.TB, w *worker.Worker, k knobs) string {
	tb.Helper()
	resp, err := w.Call(tb.Context(), k.request())
	if err != nil {
		tb.Fatalf("Call: %v %v", err, logsOf(err))
	}
	return string(resp.Data)
}

// pid returns the id of the executable, or of what it starts.
func pid(tb testing.TB, w *worker.Worker, k knobs) int {
	tb.Helper()
	var answer struct{ PID int }
	got := call(tb, w, k)
	if err := json.Unmarshal([]byte(got), &answer); err != nil || answer.PID == 0 {
		tb.Fatalf("got %s, want a pid", got)
	}
	return answer.PID
}

// echo checks that the worker is usable and in step.
func echo(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	want := fmt.Sprintf("echo %d", time.Now().UnixNano())
	resp, err := w.Call(tb.Context(), actions.Request{Args: fmt.Appendf(nil, `{"x":%q}`, want)})
	if err != nil || !strings.Contains(string(resp.Data), want) {
		tb.Fatalf("got %s, %v, want %q in it", resp.Data, err, want)
	}
}

// wantError checks an error and returns it.
func wantError(tb testing.TB, err error, code actions.Code, msg string) *actions.Error {
	tb.Helper()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Msg, msg) {
		tb.Fatalf("got error %q %v, want %q with %q", actions.CodeOf(err), err, code, msg)
	}
	return e
}

func logsOf(err error) string {
	e, ok := errors.AsType[*actions.Error](err)
	if !ok {
		return ""
	}
	return logText(e.Logs)
}

func logText(lines []actions.LogLine) string {
	var b strings.Builder
	for _, l := range lines {
		_, _ = fmt.Fprintf(&b, "%d:%s\n", l.Stream, l.Text)
	}
	return b.String()
}
