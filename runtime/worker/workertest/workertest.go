package workertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker"
)

// variable tells the test binary that it is to be a child.
const variable = "DEEPFN_WORKERTEST"

// The values of variable besides the names of faults.
const (
	modePlain = "child"
	modeSleep = "sleep" // a grandchild, which does nothing for a while
)

// A Fault is something that the child does wrong in the protocol itself.
type Fault string

// The faults of a start, for Command.
const (
	// Frames does nothing by itself; a call with Args.Frame needs it.
	Frames Fault = "frames"
	// HelloVersion says hello in version 99 of the protocol.
	HelloVersion Fault = "hello-version"
	// HelloGarbage prints text into the control pipe.
	HelloGarbage Fault = "hello-garbage"
	// HelloNever says nothing and goes on.
	HelloNever Fault = "hello-never"
	// HelloExit prints 30 lines to stderr and ends with status 3.
	HelloExit Fault = "hello-exit"
	// HelloClose closes the control pipe and goes on.
	HelloClose Fault = "hello-close"
	// ReadyLength says that its information is longer than the memory.
	ReadyLength Fault = "ready-length"
)

// The faults of an answer, for Args.Frame. The child has to be started with Frames.
const (
	FrameGarbage Fault = "garbage" // 64 bytes that are no frame
	FrameVersion Fault = "version" // of another version
	FrameType    Fault = "type"    // a hello
	FrameID      Fault = "id"      // to a call that there is not
	FrameLane    Fault = "lane"    // on a lane that there is not
	FrameLength  Fault = "length"  // longer than the memory
	FrameParts   Fault = "parts"   // of many parts
	FramePart    Fault = "part"    // a payload that ends within its part
	FrameTwice   Fault = "twice"   // sent twice
	FrameHalf    Fault = "half"    // half a frame, then the end of the process
	FrameNever   Fault = "never"   // no answer at all
)

// Command returns the arguments and the environment for a worker.Config that start the
// child. The calling test binary has to call Main.
func Command(faults ...Fault) (argv, env []string) {
	mode := modePlain
	if len(faults) > 0 {
		mode = string(faults[0])
	}
	// Without the last a child that was built with -race takes a second to end.
	return []string{"/proc/self/exe"}, []string{variable + "=" + mode, "GORACE=atexit_sleep_ms=0"}
}

// Main is to be called first in TestMain. In a process that was started by Command it
// runs the child and ends the process; else it returns.
func Main() {
	mode, ok := os.LookupEnv(variable)
	if !ok {
		return
	}
	if mode == modeSleep {
		sleep()
	}
	if mode != modePlain {
		misbehave(Fault(mode))
	}
	if err := worker.Serve(context.Background(), &program{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A Setup says what the child does when it starts, as the Setup of a worker.Config.
type Setup struct {
	// Info is what the child reports when it is ready.
	Info json.RawMessage `json:"info,omitempty"`
	// Error is a message with which the start fails, Code its code.
	Error string       `json:"error,omitempty"`
	Code  actions.Code `json:"code,omitempty"`
	// Panic, if not empty, is what the start panics with.
	Panic string `json:"panic,omitempty"`
	// Wait lets the start wait until its context ends.
	Wait bool `json:"wait,omitempty"`
	// Hang lets the start never end.
	Hang bool `json:"hang,omitempty"`
	// Exit, if not zero, ends the process with that status, after a line to stderr.
	Exit int `json:"exit,omitempty"`
	// SleepMS is how many milliseconds the start takes.
	SleepMS int `json:"sleep_ms,omitempty"`
	// Print is a line that the start prints to stdout.
	Print string `json:"print,omitempty"`
	// Tiers say how the child suspends and resumes. Nil means that it cannot.
	Tiers *Tiers `json:"tiers,omitempty"`
}

// JSON returns the setup as a worker.Config takes it.
func (s Setup) JSON() json.RawMessage { return marshal(s) }

// Args say what the child does in a call, as the Args of a request. What is set is done
// in the order of the fields; what is zero is left out.
type Args struct {
	// Stdout and Stderr are numbers of lines to print: "line 0", "line 1", ….
	Stdout int `json:"stdout,omitempty"`
	Stderr int `json:"stderr,omitempty"`
	// Print is printed to stdout as it is.
	Print string `json:"print,omitempty"`
	// LineBytes is the length of one line to print to stdout.
	LineBytes int `json:"line_bytes,omitempty"`
	// Flood prints to stdout for ever, during the call and after it.
	Flood bool `json:"flood,omitempty"`
	// Later prints a line to stderr after the answer, when the file of that name exists.
	Later string `json:"later,omitempty"`
	// Touch is a file to create, to tell the test that the call has come so far.
	Touch string `json:"touch,omitempty"`
	// Grandchild starts a process in the child's group that holds stdout and stderr
	// open for a minute; Orphan one in a session of its own. The answer is its id.
	Grandchild bool `json:"grandchild,omitempty"`
	Orphan     bool `json:"orphan,omitempty"`
	// SleepMS is how many milliseconds to work. It ends early with the context.
	SleepMS int `json:"sleep_ms,omitempty"`
	// Wait works until the context ends and returns its error, Until works until the
	// file of that name exists and does not look at the context.
	Wait  bool   `json:"wait,omitempty"`
	Until string `json:"until,omitempty"`
	// Hang works for ever, and takes no notice of the context or of SIGTERM.
	Hang bool `json:"hang,omitempty"`
	// Panic is what to panic with.
	Panic string `json:"panic,omitempty"`
	// Exit ends the process with that status, Signal sends a signal to it.
	Exit   int `json:"exit,omitempty"`
	Signal int `json:"signal,omitempty"`
	// CloseControl closes the control pipe and goes on.
	CloseControl bool `json:"close_control,omitempty"`
	// Frame is what is wrong with the frame that answers.
	Frame Fault `json:"frame,omitempty"`
	// Error is a message with which the call fails, Code its code.
	Error string       `json:"error,omitempty"`
	Code  actions.Code `json:"code,omitempty"`
	// Bytes is the size of the answer.
	Bytes int `json:"bytes,omitempty"`
	// Describe answers with a Description of the request.
	Describe bool `json:"describe,omitempty"`
}

// JSON returns the arguments as a request takes them.
func (a Args) JSON() json.RawMessage { return marshal(a) }

// A Description is how a request looks to the child.
type Description struct {
	PID         int
	Model       string
	Verb        actions.Verb
	ID          string
	Accept      string
	Args        json.RawMessage
	Files       []actions.File
	HasDeadline bool
	Trace       actions.Trace
	// Resumes is how often the child has come back from being suspended, also by itself.
	Resumes int
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only if a RawMessage in it is no JSON
	}
	return b
}

// A program is the child's worker.Program.
type program struct{ place place }

func (p *program) Start(ctx context.Context, setup json.RawMessage) (any, error) {
	var s Setup
	if len(setup) > 0 {
		if err := json.Unmarshal(setup, &s); err != nil {
			return nil, actions.Errorf(actions.Invalid, "setup: %w", err)
		}
	}
	p.place.tiers = s.Tiers
	pause(ctx, s.SleepMS)
	if s.Print != "" {
		fmt.Println(s.Print)
	}
	switch {
	case s.Exit != 0:
		fmt.Fprintln(os.Stderr, "the start ends the process")
		os.Exit(s.Exit)
	case s.Panic != "":
		panic(s.Panic)
	case s.Hang:
		hang()
	case s.Wait:
		<-ctx.Done()
		return nil, ctx.Err()
	case s.Error != "":
		return nil, failure(s.Code, s.Error)
	}
	if s.Info == nil {
		return map[string]int{"pid": os.Getpid()}, nil
	}
	return s.Info, nil
}

func failure(code actions.Code, msg string) error {
	if code == "" {
		return errors.New(msg)
	}
	return &actions.Error{Code: code, Msg: msg, Fields: map[string][]string{"field": {msg}}}
}

func (p *program) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if req.Verb == actions.Suspend || req.Verb == actions.Resume {
		return p.place.move(req.Verb)
	}
	if err := p.place.ensure(); err != nil {
		return actions.Response{}, err
	}
	var a Args
	if len(req.Args) > 0 && req.Args[0] == '{' {
		// What is no set of knobs is echoed.
		_ = json.Unmarshal(req.Args, &a)
	}
	if err := a.output(); err != nil {
		return actions.Response{}, err
	}
	if a.Grandchild || a.Orphan {
		return grandchild(a.Orphan)
	}
	if err := a.work(ctx); err != nil {
		return actions.Response{}, err
	}
	a.end()
	switch {
	case a.Error != "":
		return actions.Response{}, failure(a.Code, a.Error)
	case a.Bytes > 0:
		return actions.Response{ContentType: "application/octet-stream", Data: make([]byte, a.Bytes)}, nil
	case a.Describe:
		_, has := ctx.Deadline()
		return answer(Description{
			os.Getpid(), req.Model, req.Verb, req.ID, req.Accept, req.Args, req.Files, has, req.Trace, p.place.resumed(),
		})
	case len(req.Files) > 0:
		f := req.Files[0]
		return actions.Response{ContentType: f.ContentType, Filename: f.Filename, Data: f.Data}, nil
	}
	return actions.Response{ContentType: "application/json", Data: req.Args}, nil
}

func answer(v any) (actions.Response, error) {
	b, err := json.Marshal(v)
	return actions.Response{ContentType: "application/json", Data: b}, err
}
