package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
)

// Exit codes, those of deepfn.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnavailable = 4
)

// A Program is one run of deepfn-relay: what the operating system gives to main.
type Program struct {
	Args           []string
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

const usage = `Usage: deepfn-relay [MODEL] [flags]
       deepfn-relay healthcheck [flags]

Serves a model that a node runtime on this machine has, as 'deepfn serve --node' does: OpenWhisk's
/init and /run, the DEEPaaS V2 API. Without MODEL, DEEPFN_MODEL decides, else the code of /init.
healthcheck asks the relay on this machine whether it is alive.

Flags:
`

// A command is the command line of deepfn-relay.
type command struct {
	Program
	flags    *pflag.FlagSet
	cfg      Config
	logLevel string
	version  bool
}

// Main runs deepfn-relay and returns its exit code.
func Main(ctx context.Context, p Program) int {
	c := &command{Program: p, flags: pflag.NewFlagSet("deepfn-relay", pflag.ContinueOnError)}
	err := c.run(ctx)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return exitOK
	}
	_, _ = fmt.Fprintln(p.Stderr, "deepfn-relay:", err)
	if _, ok := errors.AsType[UsageError](err); ok {
		_, _ = fmt.Fprintln(p.Stderr, "See 'deepfn-relay --help'.")
		return exitUsage
	}
	switch actions.CodeOf(err) {
	case actions.Internal:
		return exitFailed
	case actions.NotFound:
		return exitNotFound
	default:
		return exitUnavailable
	}
}

func (c *command) run(ctx context.Context) error {
	args, err := c.parse()
	if err != nil {
		return err
	}
	if c.version {
		_, err := fmt.Fprintln(c.Stdout, "deepfn-relay", version())
		return err
	}
	if slices.Equal(args, []string{"healthcheck"}) {
		return c.healthcheck(ctx)
	}
	if len(args) > 1 {
		return usagef("%d arguments, want one MODEL at most", len(args))
	}
	if len(args) == 1 {
		c.cfg.Model = args[0]
	}
	if err := c.resolve(); err != nil {
		return err
	}
	return Run(ctx, c.cfg)
}

// parse reads the flags and returns the other arguments.
func (c *command) parse() ([]string, error) {
	f := c.flags
	f.SetOutput(c.Stdout)
	f.Usage = func() {
		_, _ = fmt.Fprint(c.Stdout, usage, f.FlagUsages())
	}
	c.cfg.Front.AddFlags(f)
	c.cfg.Node.AddFlags(f)
	f.IntVar(&c.cfg.Warm, "warm", 1, "instances of the model that the node keeps while this relay is there (DEEPFN_WARM)")
	f.StringVar(&c.logLevel, "log-level", "", "debug, info, warn or error (DEEPFN_LOG_LEVEL; default warn, because OpenWhisk takes\nstderr for the activation's log)")
	f.BoolVar(&c.version, "version", false, "print the version")
	if err := f.Parse(c.Args); errors.Is(err, pflag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, UsageError{err}
	}
	return f.Args(), nil
}

// resolve fills in from the environment what no flag has set.
func (c *command) resolve() error {
	if c.cfg.Model == "" {
		c.cfg.Model = c.Getenv("DEEPFN_MODEL")
	}
	err := errors.Join(c.cfg.Front.Resolve(c.flags, c.Getenv), c.cfg.Node.Resolve(c.flags, c.Getenv))
	if err != nil {
		return err
	}
	if text := c.Getenv("DEEPFN_WARM"); text != "" && !c.flags.Changed("warm") {
		if c.cfg.Warm, err = strconv.Atoi(text); err != nil {
			return usagef("DEEPFN_WARM=%s: want a number", text)
		}
	}
	switch {
	case c.cfg.Node.URL == "":
		return UsageError{errors.New("no node: name one with --node or DEEPFN_NODE, such as unix:///run/deepfn/node.sock")}
	case c.cfg.Warm < 0:
		return UsageError{errors.New("--warm wants 0 or more")}
	}
	if c.cfg.Log, err = c.logger(); err != nil {
		return err
	}
	if c.cfg.Entry, err = Entry(c.Getenv, c.cfg.Log); err != nil {
		return err
	}
	c.cfg.Stdout, c.cfg.Stderr, c.cfg.Version, c.cfg.Getenv = c.Stdout, c.Stderr, version(), c.Getenv
	return nil
}

func (c *command) logger() (*slog.Logger, error) {
	level := slog.LevelWarn
	if c.logLevel == "" {
		c.logLevel = c.Getenv("DEEPFN_LOG_LEVEL")
	}
	if c.logLevel != "" {
		if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
			return nil, usagef("--log-level %s: want debug, info, warn or error", c.logLevel)
		}
	} else if c.Getenv("K_SERVICE") != "" {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{Level: level})), nil
}

// healthcheck asks the relay of this machine whether it is alive.
func (c *command) healthcheck(ctx context.Context) error {
	if err := c.cfg.Front.ResolveListen(c.flags, c.Getenv); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return Healthy(ctx, c.cfg.Front.Listen)
}

// version is that of the build.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
