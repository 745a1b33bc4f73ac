package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// frames returns frames as they are on a pipe.
func frames(list ...frame) []byte {
	var b []byte
	for _, f := range list {
		var one [frameSize]byte
		f.put(&one)
		b = append(b, one[:]...)
	}
	return b
}

// payload returns a payload of one part.
func payload(contentType, data string) []byte {
	b := make([]byte, 1<<10+len(data))
	n, err := putParts(b, 0, "the test", []part{{contentType: contentType, data: []byte(data)}})
	if err != nil {
		panic(err)
	}
	return b[:n]
}

func FuzzFrame(f *testing.F) {
	f.Add(frames(frame{typ: frameHello, flags: wantsSignal, pid: 1}))
	f.Add(frames(frame{typ: frameCall, id: 1 << 60, lane: 3, parts: 2, length: 77, deadline: -1, run: 9}))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in, out [frameSize]byte
		copy(in[:], b)
		fr, err := parseFrame(&in)
		if err != nil {
			return
		}
		if fr.put(&out); in != out {
			t.Errorf("got %x, want %x", out, in)
		}
	})
}

func FuzzParts(f *testing.F) {
	b := make([]byte, 1<<10)
	n, count, err := putRequest(b, &actions.Request{
		Model: "m", ID: "i", Args: []byte(`{"a":1}`), Files: []actions.File{{Name: "f", Data: []byte("data")}},
		Texts: []actions.Text{{Origin: actions.FromForm, Name: "t", Value: "v"}}, Trace: actions.Trace{Parent: "00-1", State: "a=b"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:n], uint32(count))
	f.Add(payload("text/plain", "hello"), uint32(1))
	f.Add(payload(jsonType, `{"code":"invalid","msg":"m","fields":{"a":["b"]},"retry_after_ms":5}`), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, count uint32) {
		_, _ = parseOne(b, count)
		_, _ = parseFailure(b, count)
		req, err := parseRequest(b, count)
		if err != nil {
			return
		}
		again := make([]byte, len(b)+(int(count)+1)*2*dataAlign)
		n, parts, err := putRequest(again, &req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRequest(again[:n], uint32(parts))
		if err != nil {
			t.Fatal(err)
		}
		if req.Verb == "" {
			req.Verb = actions.Predict
		}
		if diff := cmp.Diff(req, got); diff != "" {
			t.Error(diff)
		}
	})
}

// newDeaf returns a worker whose child has written control and responses, has hung up
// and reads nothing.
func newDeaf(t *testing.T, control, responses []byte) *Worker {
	t.Helper()
	w := &Worker{
		cfg:     Config{Argv: []string{"deaf"}},
		proc:    &process{reaped: true, exited: make(chan struct{}), state: "test"},
		reading: make(chan struct{}, 1),
		dead:    make(chan struct{}),
		gone:    make(chan struct{}),
		lanes:   []*lane{{answer: make(chan frame, 1)}},
	}
	w.onLeave = w.interrupt
	w.free = append(w.free, w.lanes...)
	var err error
	if w.mem, err = newMemory(1, 1<<16); err != nil {
		t.Fatal(err)
	}
	if _, err := w.mem.respFile.WriteAt(responses[:min(len(responses), 1<<16)], 0); err != nil {
		t.Fatal(err)
	}
	in, out, stdout, stderr := pipe(t), pipe(t), pipe(t), pipe(t)
	if err = w.setPipes(in[1], out[0]); err != nil {
		t.Fatal(err)
	}
	if w.logs, err = newLogs(slog.New(slog.DiscardHandler), nil, stdout[0], stderr[0]); err != nil {
		t.Fatal(err)
	}
	_ = stdout[1].Close()
	_ = stderr[1].Close()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = out[1].Write(control)
		_ = out[1].Close()
	}()
	close(w.dead)
	t.Cleanup(func() {
		close(w.proc.exited)
		w.dead = make(chan struct{})
		go w.live()
		<-w.gone
		_ = in[0].Close()
		<-wrote
	})
	return w
}

func pipe(t *testing.T) [2]*os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return [2]*os.File{r, w}
}

// FuzzChild lets a child write anything to its control pipe and its memory: nothing
// hangs or panics, and callers get an error that they can act on.
func FuzzChild(f *testing.F) {
	info := payload(jsonType, `{}`)
	n := uint64(len(info))
	result := frame{typ: frameResult, id: 1, parts: 1, length: n}
	f.Add(true, frames(result), info)
	f.Add(true, frames(result, result), info)
	f.Add(true, frames(frame{typ: frameError, id: 1, parts: 1, length: n}), info)
	f.Add(true, frames(frame{typ: frameResult, id: 1, lane: 1, parts: 1, length: n}), info)
	f.Add(true, []byte("garbage"), info)
	f.Add(false, frames(frame{typ: frameHello}, frame{typ: frameReady, parts: 1, length: n}, result), info)
	f.Add(false, frames(frame{typ: frameHello}, frame{typ: frameFailed, parts: 1, length: n}), info)
	f.Add(false, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, loaded bool, control, responses []byte) {
		w := newDeaf(t, control, responses)
		if !loaded && w.load(t.Context()) != nil {
			return
		}
		for range 4 {
			resp, err := w.Call(t.Context(), actions.Request{Args: json.RawMessage(`{}`)})
			if _, ok := errors.AsType[*actions.Error](err); err != nil && !ok {
				t.Fatalf("got %v, which is no actions.Error", err)
			}
			if len(resp.Data) > 1<<16 {
				t.Fatalf("got %d bytes", len(resp.Data))
			}
		}
	})
}

// A child that answers calls without reading them fills the pipe, and does not block
// the caller when it is full.
func TestChildThatDoesNotRead(t *testing.T) {
	info := payload(jsonType, `{}`)
	var answers []frame
	for id := range uint64(2000) {
		answers = append(answers, frame{typ: frameResult, id: id + 1, parts: 1, length: uint64(len(info))})
	}
	w := newDeaf(t, frames(answers...), info)
	for i := range 2000 {
		_, err := w.Call(t.Context(), actions.Request{})
		if err != nil {
			if i < 1000 || !strings.Contains(err.Error(), "does not read its control pipe") {
				t.Errorf("call %d: %v", i, err)
			}
			return
		}
	}
	t.Error("there was no error")
}

// Somebody who prints for ever into the pipes of a dead child is not listened to.
func TestDrainEnds(t *testing.T) {
	stdout, stderr := pipe(t), pipe(t)
	l, err := newLogs(slog.New(slog.DiscardHandler), nil, stdout[0], stderr[0])
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for block := bytes.Repeat([]byte("line\n"), 1000); ; {
			if _, err := stdout[1].Write(block); err != nil {
				return
			}
		}
	}()
	l.drain(10 * time.Millisecond)
	l.close()
	<-done
	_ = stdout[1].Close()
	_ = stderr[1].Close()
}

// An echoProgram is a Program.
type echoProgram struct{}

func (echoProgram) Start(context.Context, json.RawMessage) (any, error) { return struct{}{}, nil }

func (echoProgram) Call(_ context.Context, req actions.Request) (actions.Response, error) {
	return actions.Response{Data: req.Args}, nil
}

// serveStream runs the child's side on what a parent has written to the control pipe
// and to the request memory of lane 0.
func serveStream(t *testing.T, control, request []byte) error {
	t.Helper()
	mem, err := newMemory(2, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.close()
	copy(mem.request(0), request)
	in := pipe(t)
	defer in[0].Close()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = in[1].Write(control)
		_ = in[1].Close()
	}()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c := &child{
		program: echoProgram{}, in: int(in[0].Fd()), out: int(null.Fd()),
		req: mem.reqFile, resp: mem.respFile,
	}
	err = c.serve(t.Context())
	_ = in[0].Close()
	<-wrote
	return err
}

// FuzzServe lets a parent write anything.
func FuzzServe(f *testing.F) {
	b := make([]byte, 1<<10)
	n, count, err := putRequest(b, &actions.Request{Args: []byte(`{}`)})
	if err != nil {
		f.Fatal(err)
	}
	call := frame{typ: frameCall, id: 1, parts: uint32(count), length: uint64(n)}
	f.Add(true, frames(call), b[:n])
	f.Add(true, frames(call, call, call), b[:n])
	f.Add(false, frames(frame{typ: frameStart, lanes: 2, limit: 1 << 16, parts: 1, length: 200}, call), payload(jsonType, `{}`))
	f.Fuzz(func(t *testing.T, started bool, control, request []byte) {
		if started {
			control = append(frames(validStart()), control...)
		}
		_ = serveStream(t, control, request)
	})
}

// validStart announces an empty setup, which the beginning of any request with no
// strings is.
func validStart() frame {
	return frame{typ: frameStart, lanes: 2, limit: 1 << 16, parts: 1, length: dataAlign}
}

func TestServeRefuses(t *testing.T) {
	start := validStart()
	tests := []struct {
		name    string
		control []byte
		msg     string // empty: no error
	}{
		{"nothing", nil, ""},
		{"start and the end", frames(start), ""},
		{"half a frame", frames(start)[:20], ""},
		{"garbage", bytes.Repeat([]byte("x"), 64), "something else than frames"},
		{"a call first", frames(frame{typ: frameCall}), "began with a frame of type 5"},
		{"a start again", frames(start, start), "type 2 where a call must be"},
		{"no lanes", frames(frame{typ: frameStart, limit: 1 << 16}), "0 lanes"},
		{"many lanes", frames(frame{typ: frameStart, lanes: 1000, limit: 1 << 16}), "1000 lanes"},
		{"another size", frames(frame{typ: frameStart, lanes: 2, limit: 1 << 17}), "bytes instead of"},
		{"a long setup", frames(frame{typ: frameStart, lanes: 2, limit: 1 << 16, parts: 1, length: 1 << 17}), "the setup has"},
		{"no call id", frames(start, frame{typ: frameCall, parts: 1, length: 100}), "call 0"},
		{"a far lane", frames(start, frame{typ: frameCall, id: 1, lane: 2, parts: 1, length: 100}), "on lane 2"},
		{"a long request", frames(start, frame{typ: frameCall, id: 1, parts: 1, length: 1<<16 + 1}), "call 1 of 65537 bytes"},
		{"no parts", frames(start, frame{typ: frameCall, id: 1, length: 100}), "a request of 0 parts"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := serveStream(t, test.control, nil)
			if got := err != nil; got != (test.msg != "") || got && !strings.Contains(err.Error(), test.msg) {
				t.Errorf("got %v, want %q", err, test.msg)
			}
		})
	}
}
