package actionloop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
	"github.com/deepfn/deepfn/runtime/command"
)

const (
	// waitForAck is the variable that makes a program say when it is ready.
	waitForAck = "__OW_WAIT_FOR_ACK"
	// executionEnv is the variable that says which image a program runs in.
	executionEnv = "__OW_EXECUTION_ENV"
	// noAnswer is what OpenWhisk says of an answer that is none.
	noAnswer = "The action did not return a dictionary or array."
)

// errNotJSON is the cause of a NoAnswer after which nobody knows what the next line answers.
var errNotJSON = errors.New("not a line of JSON")

// A Program serves one executable. Start comes first and once; then many may call Call at
// a time, and wait for each other. It has to lead its process group, as the child of a
// worker does, to end what an executable leaves behind.
type Program struct {
	config command.Config
	ack    bool
	settle time.Duration
	limit  int

	turn chan struct{} // holds a token while somebody uses loop
	loop *loop         // nil when the executable has ended
}

// New returns a Program that has not been started.
func New() *Program { return &Program{turn: make(chan struct{}, 1)} }

// Start starts the executable that setup, a command.Setup in JSON, describes, and waits until it
// is ready. What it returns is an actions.Description. The error is an *actions.Error:
// Invalid and NotFound for what the action says, Failed when the executable ends or does
// not speak the protocol, Deadline and Canceled when ctx ends.
func (p *Program) Start(ctx context.Context, setup json.RawMessage) (any, error) {
	if err := p.configure(setup); err != nil {
		return nil, err
	}
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	var err error
	if p.loop, err = p.launch(ctx); err != nil {
		return nil, err
	}
	return actions.Description{Predict: &actions.Signature{Parameters: []actions.Parameter{}, Open: true}}, nil
}

// configure reads the setup.
func (p *Program) configure(setup json.RawMessage) error {
	c, err := command.ParseSetup(setup)
	if err != nil {
		return actions.Errorf(actions.Invalid, "executable: %w", err)
	}
	spec, err := ParseSpec(c.Spec)
	if err != nil {
		return err
	}
	if p.settle, err = spec.settle(); err != nil {
		return actions.Errorf(actions.Invalid, "executable: %w", err)
	}
	env := map[string]string{}
	for to, from := range map[string]string{waitForAck: "OW_WAIT_FOR_ACK", executionEnv: "OW_EXECUTION_ENV"} {
		if v := os.Getenv(from); v != "" {
			env[to] = v
		}
	}
	maps.Copy(env, spec.Env)
	maps.Copy(env, c.Env)
	if env[waitForAck] == "" && spec.Ack {
		env[waitForAck] = "1"
	}
	p.config = command.Config{Argv: spec.argv(), Folder: c.Dir, Env: command.Environ(env), Dir: spec.WorkingDir}
	p.ack = command.Lookup(p.config.Env, waitForAck) != ""
	if p.config.Dir != "" && !filepath.IsAbs(p.config.Dir) {
		p.config.Dir = filepath.Join(c.Dir, p.config.Dir)
	}
	p.limit = int(c.MaxPayload)
	return nil
}

// launch starts the executable and waits until it is ready.
func (p *Program) launch(ctx context.Context) (*loop, error) {
	if ctx.Err() != nil {
		return nil, startError(ctx, ctx.Err())
	}
	l, err := startLoop(p.config)
	if err != nil {
		if _, ok := errors.AsType[*actions.Error](err); ok {
			return nil, err
		}
		return nil, actions.Errorf(actions.Internal, "executable: %w", err)
	}
	// Whatever it is that we wait for, it comes to an end.
	stop := context.AfterFunc(ctx, func() { l.cmd.Kill() })
	if p.ack {
		err = l.awaitAck()
	} else {
		err = l.awaitSettled(p.settle)
	}
	if err == nil {
		err = l.hears()
	}
	if err == nil && stop() {
		return l, nil
	}
	stop()
	l.end()
	return nil, startError(ctx, err)
}

// startError makes the error of a start that did not succeed.
func startError(ctx context.Context, err error) error {
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.DeadlineExceeded):
		return actions.Errorf(actions.Deadline, "the executable was not ready in time: %w", cause)
	case cause != nil:
		return actions.Errorf(actions.Canceled, "the start of the executable was canceled: %w", cause)
	}
	return actions.Errorf(actions.Failed, "the executable did not start: %w", err)
}

// awaitAck waits for the line by which the executable says that it is ready.
func (l *loop) awaitAck() error {
	b, err := l.read(maxAck)
	switch {
	case errors.Is(err, errEnded) && l.cmd.Ended():
		return fmt.Errorf("it ended before it was ready: %s", l.cmd.State())
	case err != nil:
		return err
	}
	var ack struct {
		OK bool `json:"ok"`
	}
	if json.Unmarshal(b, &ack) != nil || !ack.OK {
		return fmt.Errorf(`its first line on descriptor 3 is %s instead of {"ok":true}`, excerpt(b))
	}
	return nil
}

// awaitSettled waits whether the executable ends at once, or writes what nobody has asked
// for.
func (l *loop) awaitSettled(settle time.Duration) error {
	_ = l.out.SetReadDeadline(time.Now().Add(settle))
	var b [1]byte
	_, err := l.out.Read(b[:])
	// watch sets it again if the executable ends from now on.
	_ = l.out.SetReadDeadline(time.Time{})
	if errors.Is(err, io.EOF) {
		err = l.hungUp(errors.New("it closed descriptor 3"))
	}
	switch {
	case err == nil:
		return errors.New(`it wrote before it was asked; if it says {"ok":true} when it is ready it needs ack: true`)
	case l.cmd.Ended():
		return fmt.Errorf("it ended before it was asked anything: %s", l.cmd.State())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

// Close lets the executable end. A process that ends need not call it, but gives the
// executable time to put things in order if it does. It ends one that works on a request.
func (p *Program) Close() {
	select {
	case p.turn <- struct{}{}:
		if p.loop != nil {
			p.loop.stop()
			p.loop = nil
		}
		<-p.turn
	default: // the end of this process ends it
	}
}

// Call gives one request to the executable. Its errors are *actions.Error: Unsupported
// for a verb other than predict, Invalid for arguments that are not JSON, NoAnswer for a
// line that is neither an object nor a list, Failed for an executable that does not keep to
// the protocol, TooLarge for an answer over the limit, Exited when the executable ends, Unavailable when it cannot be
// started again, Deadline and Canceled when ctx ends before the request was given to it. After
// that it is not interrupted: what it answered would be taken for the next answer.
func (p *Program) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	if req.Verb != "" && req.Verb != actions.Predict {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "an executable cannot %s; it can predict", req.Verb)
	}
	pieces, err := newLine(ctx, &req)
	if err != nil {
		return actions.Response{}, err
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return actions.Response{}, leftError(ctx)
	}
	for again := true; ; again = false {
		if err := p.ready(ctx); err != nil {
			return actions.Response{}, err
		}
		answer, untouched, err := p.exchange(pieces)
		if err == nil || !untouched || !again {
			return actions.Response{ContentType: "application/json", Data: answer}, err
		}
	}
}

func leftError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return actions.Errorf(actions.Deadline, "the time was over before the executable was free: %w", ctx.Err())
	}
	return actions.Errorf(actions.Canceled, "the call was canceled before the executable was free: %w", ctx.Err())
}

// ready makes sure that there is an executable that waits for a request.
func (p *Program) ready(ctx context.Context) error {
	if ctx.Err() != nil {
		return leftError(ctx)
	}
	if p.loop != nil {
		err := p.loop.idle()
		if err == nil {
			return nil
		}
		// To the log of this request, which has to wait for it.
		_, _ = fmt.Fprintf(os.Stderr, "deepfn: the executable is started again: %v\n", err)
		p.drop()
	}
	if p.config.Argv == nil {
		return actions.Errorf(actions.Internal, "the executable has not been started")
	}
	l, err := p.launch(ctx)
	if err != nil {
		code := actions.CodeOf(err)
		if code != actions.Deadline && code != actions.Canceled {
			code = actions.Unavailable
		}
		return actions.Errorf(code, "the executable had ended and cannot be started again: %w", err)
	}
	p.loop = l
	return nil
}

// drop ends the executable, which the next call starts again.
func (p *Program) drop() {
	p.loop.end()
	p.loop = nil
}

// exchange sends a request and returns its answer. If the executable has ended, or closed
// its standard input, without having read anything of the request it says so.
func (p *Program) exchange(pieces line) (answer []byte, untouched bool, err error) {
	l := p.loop
	read, err := l.write(pieces)
	var reply []byte
	if err == nil {
		reply, err = l.read(p.limit)
		read -= l.unread()
	}
	switch {
	case errors.Is(err, errTooLong):
		return nil, false, actions.Errorf(actions.TooLarge, "the executable's answer is longer than %d bytes", p.limit)
	case errors.Is(err, errEnded):
		err = p.endedError(err)
		p.drop()
		return nil, read <= 0, err
	case errors.Is(err, errDeaf):
		p.drop()
		return nil, read <= 0, actions.Errorf(actions.Failed, "the executable was ended: %w", err)
	case err == nil && read < pieces.size()-1:
		// All but the newline, which some parsers leave.
		err = errors.New("it answered before it had read the request")
	}
	if err == nil {
		answer, err = check(reply)
	}
	if wrong, ok := errors.AsType[*actions.Error](err); ok {
		// OpenWhisk's suites want no log of an answer that is JSON and no result.
		if l.answered = !errors.Is(err, errNotJSON); !l.answered {
			_, _ = fmt.Fprintf(os.Stderr, "deepfn: the executable's answer is %v\n", wrong.Err)
			p.drop()
		}
		return nil, false, err
	}
	if err != nil {
		p.drop()
		return nil, false, actions.Errorf(actions.Failed, "the executable was ended: %w", err)
	}
	l.answered = true
	return answer, false, nil
}

// endedError is the error of a request during which the executable has ended. One that was
// killed, as the kernel does for want of memory, did not end itself.
func (p *Program) endedError(err error) error {
	when := ""
	if !p.loop.answered {
		when = " before its first answer"
	}
	if inside := err.Error(); inside != errEnded.Error() {
		when += inside[len(errEnded.Error()):]
	}
	code, state := actions.Exited, p.loop.cmd.State()
	if strings.HasPrefix(state, "signal") {
		code = actions.Unavailable
	}
	return actions.Errorf(code, "the command exited%s: %s", when, state)
}

// check returns an answer if it is an object or a list, else NoAnswer. After a line that is
// not JSON, which is the cause then, nobody knows what the next line is.
func check(reply []byte) ([]byte, error) {
	b := bytes.TrimSpace(reply)
	switch {
	case !jsonscan.Valid(b):
		return nil, &actions.Error{Code: actions.NoAnswer, Msg: noAnswer, Err: fmt.Errorf("%w: %s", errNotJSON, excerpt(b))}
	case b[0] != '{' && b[0] != '[':
		return nil, &actions.Error{Code: actions.NoAnswer, Msg: noAnswer, Err: errors.New(excerpt(b))}
	}
	return b, nil
}
