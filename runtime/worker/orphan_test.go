package worker_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/runtime/worker"
)

// parentVariable makes the test binary a process with a worker.
const parentVariable = "DEEPFN_TEST_PARENT"

// parentMain starts a worker, prints its id and waits to be killed.
func parentMain() {
	how := os.Getenv(parentVariable)
	if how == "" {
		return
	}
	_ = os.Unsetenv(parentVariable)
	if how == "zygote" {
		forkingParent()
	}
	w, err := worker.Start(context.Background(), config())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(w.PID())
	select {}
}

func TestWorkerEndsWithItsParent(t *testing.T) {
	parent := exec.CommandContext(t.Context(), "/proc/self/exe")
	parent.Env = append(os.Environ(), parentVariable+"=1")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	if !alive(pid) {
		t.Fatal("the worker does not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, "the worker ends", func() bool { return !alive(pid) })
}
