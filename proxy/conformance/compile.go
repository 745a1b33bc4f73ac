package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
)

// A compiler is a target that compiles source as the official images do with -compile: a
// zip of source on standard input, a zip with the program on standard output.
type compiler interface {
	compile(ctx context.Context, source string) (program string, err error)
}

func (p *program) compile(ctx context.Context, source string) (string, error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover in the folder for temporary files
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", p.command+" -compile main") // #nosec G204 -- the command that the user gave
	cmd.Dir = dir
	cmd.Env = environment(p.env, nil, "0")
	return filter(cmd, source)
}

func (i *image) compile(ctx context.Context, source string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "run", "-i", "--rm", i.ref, "-compile", "main") // #nosec G204 -- the user's image
	cmd.Env = i.env
	return filter(cmd, source)
}

// filter runs a command from base64 to base64.
func filter(cmd *exec.Cmd, source string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(source)
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(raw), &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, short(errs.Bytes()))
	}
	if !bytes.HasPrefix(out.Bytes(), []byte("PK")) {
		return "", fmt.Errorf("it gave no zip but %s", short(out.Bytes()))
	}
	return base64.StdEncoding.EncodeToString(out.Bytes()), nil
}
