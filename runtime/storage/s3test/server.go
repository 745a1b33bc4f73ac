// Package s3test starts a real server of S3 for tests, Versity's gateway on a folder, and
// stands before it to make it slow, hang, break off or answer with errors.
//
// The program is named by DEEPFN_TEST_S3_SERVER, which make test sets.
package s3test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What the server knows. There is one bucket, and one who may use it.
const (
	Bucket    = "bucket"
	AccessKey = "test-key"
	SecretKey = "test-secret"
	Region    = "eu-test-1"
)

// startTime is how long the server may take to listen.
const startTime = 30 * time.Second

// A Server is a process that serves a folder as the objects of S3. It is for one test, whose
// end ends it.
type Server struct {
	tb   testing.TB
	dir  string
	size int64      // of a file system of its own; 0 is none
	mu   sync.Mutex // guards cmd: a fault kills it
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	*front
}

// Start starts a server of an empty folder.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return start(tb, 0)
}

// StartSmall starts a server whose folder is a file system of its own of so many bytes: it is
// full when they are used. What it keeps is gone when it is killed.
func StartSmall(tb testing.TB, size int64) *Server {
	tb.Helper()
	return start(tb, size)
}

func start(tb testing.TB, size int64) *Server {
	tb.Helper()
	if os.Getenv("DEEPFN_TEST_S3_SERVER") == "" {
		tb.Fatal("DEEPFN_TEST_S3_SERVER names no server of S3: run make test")
	}
	s := &Server{tb: tb, dir: tb.TempDir(), size: size}
	s.front = newFront(tb)
	tb.Cleanup(func() {
		s.Kill()
		s.release()
	})
	s.run()
	return s
}

// URL is the endpoint of the server.
func (s *Server) URL() string { return "http://" + s.address }

// Environment has the AWS SDK of this process find the server, and nothing of the machine's.
func (s *Server) Environment(t *testing.T) {
	t.Helper()
	for name, value := range s.Variables(t) {
		t.Setenv(name, value)
	}
}

// Variables are the environment in which a process finds the server.
func (s *Server) Variables(t *testing.T) map[string]string {
	t.Helper()
	home := t.TempDir()
	return map[string]string{
		"HOME": home, "AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "credentials"),
		"AWS_ENDPOINT_URL_S3": s.URL(), "AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_REGION": Region,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "", "AWS_SESSION_TOKEN": "",
	}
}

// Path is the file that the server has an object of the bucket in. A server of StartSmall
// has none that others see.
func (s *Server) Path(key string) string { return filepath.Join(s.dir, "objects", Bucket, key) }

// Kill ends the server as a power cut does: connections break, and further ones are refused.
func (s *Server) Kill() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	s.end()
}

// Restart starts the server again after Kill, at its address.
func (s *Server) Restart() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listen()
	s.run()
}

// run starts the process and returns when it listens.
func (s *Server) run() {
	s.tb.Helper()
	port := freePort(s.tb)
	objects, meta := filepath.Join(s.dir, "objects"), filepath.Join(s.dir, "meta")
	prepare := `mkdir -p "$1/` + Bucket + `" "$2" && shift 2 && exec "$@"`
	if s.size > 0 {
		prepare = `mount -t tmpfs -o size=` + strconv.FormatInt(s.size, 10) + ` tmpfs "$(dirname "$1")" && ` + prepare
	}
	args := []string{
		"-c", prepare, "sh", objects, meta, os.Getenv("DEEPFN_TEST_S3_SERVER"),
		"--port", port, "--access", AccessKey, "--secret", SecretKey, "--region", Region, "--quiet", "posix",
	}
	if s.size > 0 || !hasAttributes(s.dir) {
		args = append(args, "--sidecar", meta)
	}
	s.cmd = exec.Command("/bin/sh", append(args, objects)...) //nolint:noctx // end ends it
	log := &lines{}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if s.size > 0 { // to mount without being root
		s.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
		s.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		s.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatalf("the server of S3 cannot be started: %v", err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) { // ends with the process
		_ = cmd.Wait()
		close(done)
	}(s.cmd)
	s.wait(port, log)
	to := &url.URL{Scheme: "http", Host: port}
	s.to.Store(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Transport: s.transport, FlushInterval: -1, ErrorHandler: broken,
	})
}

// wait returns when the server takes connections.
func (s *Server) wait(address string, log *lines) {
	s.tb.Helper()
	over := time.After(startTime)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", address) //nolint:noctx // to a port of this machine
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-s.done:
			s.tb.Fatalf("the server of S3 has ended:\n%s", log)
		case <-over:
			s.tb.Fatalf("the server of S3 does not listen at %s: %v\n%s", address, err, log)
		}
	}
}

// end kills the process and waits for its end.
func (s *Server) end() {
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.done
	s.cmd = nil
}

// hasAttributes says whether a file system has a place for what S3 knows of an object.
func hasAttributes(dir string) bool {
	return syscall.Setxattr(dir, "user.deepfn.test", []byte("1"), 0) == nil
}

// freePort is an address that nobody listens at.
func freePort(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // which is at once
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return fmt.Sprint(ln.Addr())
}
