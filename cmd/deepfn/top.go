package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/cmd/relay"
	"github.com/deepfn/deepfn/proxy"
)

const (
	// pollTime is how long a server may take to say what it does.
	pollTime = 5 * time.Second
	// maxStats is how many bytes that may have.
	maxStats = 16 << 20
	// leastInterval keeps a slip of the finger from becoming a load test.
	leastInterval = 100 * time.Millisecond
	// pipeWidth is how wide a frame may be that goes to no terminal.
	pipeWidth = 1000
)

// A topView is one run of the top command.
type topView struct {
	server    string
	interval  time.Duration
	instances bool
	once      bool
	stdout    io.Writer
	now       func() time.Time
}

func topCommand() *cobra.Command {
	t := &topView{now: time.Now}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Shows what the models and devices of a server do, live",
		Long: "Shows what the models and devices of a server do, live. It asks the server for /stats.\n" +
			"Keys: i shows the instances or hides them, q quits. To anything but a terminal it writes one\n" +
			"frame, as with --once.\n\n" + exitHelp,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t.stdout = cmd.OutOrStdout()
			return t.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.server, "server", "http://"+relay.DefaultListen, "URL of the server")
	f.DurationVar(&t.interval, "interval", time.Second, "time from one frame to the next")
	f.BoolVar(&t.instances, "instances", false, "a line for each instance, too")
	f.BoolVar(&t.once, "once", false, "print one frame and end")
	return cmd
}

// run shows frames until ctx ends or the user wants no more.
func (t *topView) run(ctx context.Context) error {
	u, err := url.Parse(t.server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usageError{fmt.Errorf("--server %s: want a URL such as http://127.0.0.1:8080", t.server)}
	}
	if t.interval < leastInterval {
		return usageError{fmt.Errorf("--interval %v: want %v or more", t.interval, leastInterval)}
	}
	first, err := t.poll(ctx)
	if err != nil {
		return err
	}
	if t.once || !isTerminal(t.stdout) {
		_, err := io.WriteString(t.stdout, strings.Join(t.frame(view{now: first}, pipeWidth), "\n")+"\n")
		return err
	}
	return t.live(ctx, first)
}

// A sample is what a server said at one moment.
type sample struct {
	at    time.Time
	stats proxy.Stats
}

// poll asks the server. The error is an *actions.Error Unavailable.
func (t *topView) poll(ctx context.Context) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	s := &sample{at: t.now()}
	err := getJSON(ctx, strings.TrimRight(t.server, "/")+"/stats", &s.stats)
	if err != nil {
		return nil, actions.Errorf(actions.Unavailable, "no statistics from %s: %w; --server names another server", t.server, err)
	}
	return s, nil
}

// getJSON reads a document.
func getJSON(ctx context.Context, address string, doc any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil { // without the URL, which the message has
			err = inner
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStats)).Decode(doc); err != nil {
		return fmt.Errorf("its answer is no statistics: %w", err)
	}
	return nil
}

// live draws frames on the terminal.
func (t *topView) live(ctx context.Context, first *sample) error {
	term, err := openScreen(ctx, t.stdout)
	if err != nil {
		return err
	}
	defer term.close()
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	v := view{now: first}
	for {
		width, height := term.size()
		if err := term.draw(t.frame(v, width), height); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-term.resized:
		case key := <-term.keys:
			switch key {
			case 'q', 'Q':
				return nil
			case 'i', 'I':
				t.instances = !t.instances
			}
		case <-ticker.C:
			v = t.next(ctx, v)
		}
	}
}

// next is the view after another question to the server. One that does not answer is asked
// again the next time.
func (t *topView) next(ctx context.Context, v view) view {
	s, err := t.poll(ctx)
	switch {
	case err != nil && v.failed.IsZero():
		v.failed, v.err = t.now(), err
	case err != nil:
		v.err = err
	case v.failed.IsZero():
		v = view{before: v.now, now: s}
	default: // it may be another process
		v = view{now: s}
	}
	return v
}
