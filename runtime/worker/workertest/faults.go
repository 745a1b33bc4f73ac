package workertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// output prints what the arguments ask for.
func (a *Args) output() error {
	for i := range a.Stdout {
		fmt.Println("line", i)
	}
	for i := range a.Stderr {
		fmt.Fprintln(os.Stderr, "line", i)
	}
	fmt.Print(a.Print)
	if a.LineBytes > 0 {
		fmt.Println(strings.Repeat("x", a.LineBytes))
	}
	if a.Flood {
		go flood()
	}
	if a.Later != "" {
		go func() {
			await(a.Later)
			fmt.Fprintln(os.Stderr, "a line after the answer")
		}()
	}
	if a.Touch != "" {
		return os.WriteFile(a.Touch, nil, 0o600)
	}
	return nil
}

// flood prints for ever.
func flood() {
	block := bytes.Repeat([]byte("a line of a flood\n"), 1000)
	for {
		if _, err := os.Stdout.Write(block); err != nil {
			return
		}
	}
}

// await returns when a file exists.
func await(name string) {
	for {
		if _, err := os.Stat(name); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// pause waits for some milliseconds or until the context ends.
func pause(ctx context.Context, ms int) {
	if ms == 0 {
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-ctx.Done():
	}
}

// hang never returns, and nothing but SIGKILL ends it.
func hang() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	for {
		time.Sleep(time.Hour)
	}
}

// work takes time.
func (a *Args) work(ctx context.Context) error {
	pause(ctx, a.SleepMS)
	if a.Until != "" {
		await(a.Until)
	}
	if a.Wait {
		<-ctx.Done()
	}
	if a.Hang {
		hang()
	}
	return ctx.Err()
}

// end ends the process or its control pipe.
func (a *Args) end() {
	if a.Panic != "" {
		panic(a.Panic)
	}
	if a.Exit != 0 {
		os.Exit(a.Exit)
	}
	if a.Signal != 0 {
		kill(syscall.Signal(a.Signal))
	}
	if a.CloseControl {
		_ = unix.Close(controlOut)
		hang()
	}
	if a.Frame != "" {
		next.Store(&a.Frame)
	}
}

// kill ends the process by a signal, also by one that Go would handle.
func kill(sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	// Not hang: another thread may get the signal, and must not find it ignored.
	for {
		time.Sleep(time.Hour)
	}
}

// grandchild starts a process that holds the outputs of this one.
func grandchild(orphan bool) (actions.Response, error) {
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // it outlives the call, which is what it is for
	cmd.Env = append(os.Environ(), variable+"="+modeSleep)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: orphan}
	if err := cmd.Start(); err != nil {
		return actions.Response{}, err
	}
	return answer(cmd.Process.Pid)
}

// sleep is what a grandchild does.
func sleep() {
	time.Sleep(time.Minute)
	os.Exit(0)
}

// The layout of the protocol that the faults need, written down once more on purpose:
// who changes it in package worker sees it here.
const (
	controlOut = 4
	responses  = 6
	frameSize  = 64
	offType    = 6
	typeReady  = 3
)

// next is the fault of the next answer.
var next atomic.Pointer[Fault] //nolint:gochecknoglobals // a process has one control pipe

// misbehave does what a fault of the start says, or puts a relay between Serve and the
// control pipe that does it later.
func misbehave(fault Fault) {
	switch fault {
	case HelloNever:
		hang()
	case HelloExit:
		for i := range 30 {
			fmt.Fprintln(os.Stderr, "reason", i)
		}
		os.Exit(3)
	case HelloClose:
		_ = unix.Close(controlOut)
		hang()
	case HelloGarbage:
		_, _ = unix.Write(controlOut, bytes.Repeat([]byte("Hello, world! "), 10))
		hang()
	default: // the others are done by the relay
	}
	out, err := unix.Dup(controlOut)
	if err != nil {
		panic(err)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		panic(err)
	}
	if err := unix.Dup3(p[1], controlOut, 0); err != nil {
		panic(err)
	}
	go relay(fault, p[0], out)
}

// relay carries the frames of Serve to the parent, and damages some.
func relay(fault Fault, in, out int) {
	var b [frameSize]byte
	for {
		if n, err := unix.Read(in, b[:]); n != frameSize || err != nil {
			return
		}
		f := fault
		if p := next.Swap(nil); p != nil {
			f = *p
		}
		send := damage(f, b[:])
		_, _ = unix.Write(out, send)
		if f == FrameHalf {
			os.Exit(0)
		}
	}
}

// damage applies a fault to a frame and returns what to send.
func damage(f Fault, b []byte) []byte {
	le := binary.LittleEndian
	switch f {
	case HelloVersion, FrameVersion:
		le.PutUint16(b[4:], 99)
	case ReadyLength:
		if b[offType] == typeReady {
			le.PutUint64(b[24:], 1<<50)
		}
	case FrameGarbage:
		copy(b, "garbage")
	case FrameType:
		b[offType] = 1
	case FrameID:
		le.PutUint64(b[8:], le.Uint64(b[8:])+1)
	case FrameLane:
		le.PutUint32(b[16:], 1000)
	case FrameLength:
		le.PutUint64(b[24:], 1<<63+5)
	case FrameParts:
		le.PutUint32(b[20:], 1<<31)
	case FramePart:
		var huge [8]byte
		le.PutUint64(huge[:], 1<<62)
		_, _ = unix.Pwrite(responses, huge[:], 16)
	case FrameTwice:
		return append(append([]byte(nil), b...), b...)
	case FrameHalf:
		return b[:frameSize/2]
	case FrameNever:
		return nil
	default: // not a fault of this frame
	}
	return b
}
