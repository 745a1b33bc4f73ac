package worker_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// zygoteVariable makes the test binary a zygote, whose children are started afresh: a Go
// program cannot fork. Its value is what the zygote does wrong.
const zygoteVariable = "DEEPFN_TEST_ZYGOTE"

// A zygote is the other side of a worker.Zygote.
type zygote struct {
	fault string
}

func zygoteMain() {
	fault, ok := os.LookupEnv(zygoteVariable)
	if !ok || len(os.Args) < 2 || os.Args[1] != "zygote" {
		return
	}
	runtime.LockOSThread() // of which the children are
	z := &zygote{fault: fault}
	switch fault {
	case "silent":
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	case "garbage":
		_ = unix.Sendmsg(3, []byte("hello"), nil, nil, 0)
	case "unsafe":
		z.send(2, 0, 0, "there are threads", -1)
	case "type":
		z.send(7, 0, 0, "", -1)
	default:
		fmt.Println("a line of the zygote")
		z.send(1, 0, 0, "left.out: because", -1)
	}
	for z.answer() {
	}
	os.Exit(0)
}

func (z *zygote) send(typ byte, id uint32, value int32, text string, fds ...int) {
	b := make([]byte, 16, 16+len(text))
	copy(b, "DFNZ")
	b[4] = typ
	binary.LittleEndian.PutUint32(b[8:], id)
	binary.LittleEndian.PutUint32(b[12:], uint32(value))
	var rights []byte
	if len(fds) > 0 && fds[0] >= 0 {
		rights = unix.UnixRights(fds...)
	}
	_ = unix.Sendmsg(3, append(b, text...), rights, nil, 0)
}

// answer answers one packet, and returns false when there is none.
func (z *zygote) answer() bool {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*16))
	n, oobn, _, _, err := unix.Recvmsg(3, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n < 16 {
		return false
	}
	id, value := binary.LittleEndian.Uint32(b[8:]), int(int32(binary.LittleEndian.Uint32(b[12:])))
	if b[4] == 6 {
		var ws unix.WaitStatus
		if pid, err := unix.Wait4(value, &ws, unix.WNOHANG, nil); z.fault == "no-reap" || pid != value || err != nil {
			z.send(5, id, 0, "not reaped", -1)
			return true
		}
		z.send(7, id, int32(ws), "", -1)
		return true
	}
	var fds []int
	messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		more, _ := unix.ParseUnixRights(&messages[i])
		fds = append(fds, more...)
	}
	z.fork(id, fds)
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return true
}

// fork answers a request for a child.
func (z *zygote) fork(id uint32, fds []int) {
	switch z.fault {
	case "refuse":
		z.send(5, id, 0, "no more processes", -1)
		return
	case "mute":
		return
	case "die":
		os.Exit(4)
	case "no descriptor":
		z.send(4, id, int32(os.Getpid()), "", -1)
		return
	case "unknown type":
		z.send(9, id, 0, "", -1)
		return
	}
	pid, pidfd := birth(fds)
	switch z.fault {
	case "late":
		await(os.Getenv("DEEPFN_TEST_LATE"))
	case "two descriptors":
		z.send(4, id, int32(pid), "", pidfd, pidfd)
		return
	case "nobody asked":
		other, otherFD := birth(fds)
		z.send(4, 77, int32(other), "", otherFD)
	}
	z.send(4, id, int32(pid), "", pidfd)
	_ = unix.Close(pidfd)
}

// birth starts the child.
func birth(fds []int) (pid, pidfd int) {
	var st unix.Stat_t
	_ = unix.Fstat(fds[7], &st)
	b := make([]byte, st.Size)
	_, _ = unix.Pread(fds[7], b, 0)
	words := strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
	files := make([]uintptr, 7)
	for i := range files {
		files[i] = uintptr(fds[i])
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{words[0]}, &syscall.ProcAttr{
		Dir: words[1], Env: words[2:], Files: files,
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err == nil {
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil {
		panic(err)
	}
	return pid, pidfd
}

func await(name string) {
	for !exists(name) {
		time.Sleep(time.Millisecond)
	}
}
