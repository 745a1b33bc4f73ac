package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// probePatience is how long an interpreter may take to say its version.
	probePatience = 10 * time.Second
	// question makes each Python there ever was say its version.
	question = `import sys; sys.stdout.write("Python %d.%d" % sys.version_info[:2])`
)

// probe says what is wrong with an interpreter; nil when nothing is.
func probe(ctx context.Context, python string) error {
	info, err := os.Stat(python)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no interpreter %s; correct interpreter in the section python of the action, or leave it out: %w", python, fs.ErrNotExist)
	case err != nil:
		return fmt.Errorf("the interpreter: %w", err)
	case info.IsDir():
		return fmt.Errorf("%s is a folder; interpreter names the program in it, such as %s/bin/python", python, python)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s may not be executed; chmod +x it if it is an interpreter", python)
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", question)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("the interpreter %s did not say its version within %v", python, probePatience)
	}
	var major, minor int
	if n, _ := fmt.Sscanf(string(out), "Python %d.%d", &major, &minor); n != 2 {
		return fmt.Errorf("%s is not a Python interpreter that works: %s", python, said(out, err))
	}
	if major < 3 || major == 3 && minor < 8 {
		return fmt.Errorf("%s is Python %d.%d; 3.8 or later is needed", python, major, minor)
	}
	return nil
}

// said returns what a program said that is not what it was asked for.
func said(out []byte, err error) string {
	lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	switch {
	case last != "":
		return fmt.Sprintf("it says %.300q", last)
	case err != nil:
		return err.Error()
	default:
		return "it says nothing"
	}
}
