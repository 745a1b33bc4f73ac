package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// The port of the contract.
const contractPort = "8080"

// errUnknown is returned for what cannot be done to a container that somebody else
// started.
var errUnknown = errors.New("the container was started by somebody else")

// A target starts containers.
type target interface {
	// start starts a fresh container with more variables in its environment, and returns
	// when it accepts connections.
	start(ctx context.Context, env map[string]string) (container, error)
	// has says what the containers of this target allow.
	has() abilities
}

// abilities are what can be done with the containers of a target.
type abilities struct {
	fresh    bool // every start is a fresh container
	env      bool // variables can be given to it
	logs     bool // what it prints is known
	signals  bool // it can be signalled and frozen
	files    bool // its files are this machine's
	parallel bool // several can run at once
}

// A container runs.
type container interface {
	base() string                    // its URL, without a slash at the end
	logs() (stdout, stderr string)   // what it has printed so far
	terminate(context.Context) error // sends it SIGTERM, as docker stop does
	freeze(context.Context) error    // stops all its processes, as docker pause does
	thaw(context.Context) error      // continues them
	ended() bool                     // its main process has ended
	close()
}

// An address is a target that somebody else started.
type address struct {
	base    string
	restart string
	env     []string
	timeout time.Duration
}

func (a *address) has() abilities { return abilities{fresh: a.restart != ""} }

// start runs the restart command, when there is one, and waits for the container.
func (a *address) start(ctx context.Context, _ map[string]string) (container, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if a.restart != "" {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", a.restart) // #nosec G204 -- the command that the user gave
		cmd.Env = a.env
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("the restart command: %w: %s", err, short(out))
		}
	}
	u, err := url.Parse(a.base)
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if !waitForPort(ctx, net.JoinHostPort(u.Hostname(), port), nil) {
		return nil, fmt.Errorf("nothing accepts connections at %s", a.base)
	}
	return &remote{url: a.base}, nil
}

// A remote is the container behind an address.
type remote struct{ url string }

func (r *remote) base() string                  { return r.url }
func (*remote) logs() (stdout, stderr string)   { return "", "" }
func (*remote) terminate(context.Context) error { return errUnknown }
func (*remote) freeze(context.Context) error    { return errUnknown }
func (*remote) thaw(context.Context) error      { return errUnknown }
func (*remote) ended() bool                     { return false }
func (*remote) close()                          {}

// An image is a target that docker runs.
type image struct {
	ref     string
	env     []string
	timeout time.Duration
}

func (*image) has() abilities {
	return abilities{fresh: true, env: true, logs: true, signals: true, parallel: true}
}

func (i *image) start(ctx context.Context, env map[string]string) (container, error) {
	path, err := exec.LookPath("docker")
	if err != nil {
		return nil, fmt.Errorf("an image needs the command docker: %w", err)
	}
	d := &docker{path: path, env: i.env}
	args := []string{"run", "-d", "-p", "127.0.0.1::" + contractPort}
	for name, value := range env {
		args = append(args, "-e", name+"="+value)
	}
	ctx, cancel := context.WithTimeout(ctx, i.timeout+time.Minute) // the image may have to be fetched
	defer cancel()
	if d.id, err = d.command(ctx, append(args, i.ref)...); err != nil {
		return nil, err
	}
	published, err := d.command(ctx, "port", d.id, contractPort+"/tcp")
	if err == nil {
		d.address, _, _ = strings.Cut(published, "\n")
		if waitForPort(ctx, d.address, d.ended) {
			return d, nil
		}
		out, stderr := d.logs()
		err = fmt.Errorf("the image %s accepts no connections: %s", i.ref, short([]byte(out+stderr)))
	}
	d.close()
	return nil, err
}

// A docker is a container that the command docker started.
type docker struct {
	path, id, address string
	env               []string
}

// command runs docker and returns what it printed, without the end of the last line.
func (d *docker) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.path, args...) // #nosec G204 -- docker, with the user's image
	cmd.Env = d.env
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("docker %s: %w: %s", args[0], err, short(e.Stderr))
	}
	return strings.TrimSpace(string(out)), err
}

func (d *docker) base() string { return "http://" + d.address }

func (d *docker) logs() (stdout, stderr string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.path, "logs", d.id) // #nosec G204 -- a container of ours
	var out, errs strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, &out, &errs
	if err := cmd.Run(); err != nil {
		return "", err.Error()
	}
	return out.String(), errs.String()
}

func (d *docker) terminate(ctx context.Context) error {
	_, err := d.command(ctx, "kill", "--signal", "TERM", d.id)
	return err
}

func (d *docker) freeze(ctx context.Context) error {
	_, err := d.command(ctx, "pause", d.id)
	return err
}

func (d *docker) thaw(ctx context.Context) error {
	_, err := d.command(ctx, "unpause", d.id)
	return err
}

func (d *docker) ended() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	running, err := d.command(ctx, "inspect", "-f", "{{.State.Running}}", d.id)
	return err == nil && running == "false"
}

func (d *docker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, _ = d.command(ctx, "rm", "-f", "-v", d.id) // it is gone, or there is nothing that can be done
}

// waitForPort waits until an address accepts a connection. It gives up when ctx ends or
// ended says that nobody will.
func waitForPort(ctx context.Context, address string, ended func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if accepts(ctx, address) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if ended != nil && ended() {
			return false
		}
	}
}

// accepts says whether somebody listens at an address.
func accepts(ctx context.Context, address string) bool {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close() // nothing was sent
	}
	return err == nil
}
