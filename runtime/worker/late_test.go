package worker

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// What is printed between two calls, by a thread of the model say, belongs to neither, even
// if the next one begins before anybody has read it.
func TestLateLinesBelongToNoCall(t *testing.T) {
	var log strings.Builder
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLogs(slog.New(slog.NewTextHandler(&log, nil)), nil, outR, errR)
	if err != nil {
		t.Fatal(err)
	}
	l.loaded()
	const calls = 200
	for i := range calls {
		_, _ = fmt.Fprintf(outW, "late %d\n", i)
		_, _ = fmt.Fprintf(errW, "unfinished %d", i)
		l.begin()
		_, _ = fmt.Fprintf(outW, "in call %d\n", i)
		want := []actions.LogLine{{Stream: actions.Stdout, Text: fmt.Sprintf("in call %d", i)}}
		if diff := cmp.Diff(want, l.end()); diff != "" {
			t.Fatalf("call %d: %s", i, diff)
		}
	}
	_, _ = outW.Close(), errW.Close()
	l.drain(drainGrace)
	l.close()
	for _, line := range []string{"late", "unfinished"} {
		if n := strings.Count(log.String(), line); n != calls {
			t.Errorf("the log has %d of the lines %s, want %d", n, line, calls)
		}
	}
}

// What is printed while the model is loaded is kept for the first call, up to a bound: the
// last of it, where a traceback ends.
func TestLinesOfTheStartAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name                string
		size, lines, wanted int
	}{
		{"few", 10, 100, 100},
		{"many", 10, 5000, tailSize},
		{"long", 10000, 100, maxTail / (10000 + lineCost)},
		{"one that is longer", maxLine, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &logs{tailing: true, log: slog.New(slog.DiscardHandler)}
			for i := range tt.lines {
				l.addLocked(actions.Stdout, fmt.Appendf(nil, "%0*d", tt.size, i))
			}
			got := l.tailLines()
			if len(got) != tt.wanted {
				t.Fatalf("got %d lines, want %d", len(got), tt.wanted)
			}
			if last := fmt.Sprintf("%0*d", tt.size, tt.lines-1); got[len(got)-1].Text != last {
				t.Errorf("got %.20s as the last line, want %.20s", got[len(got)-1].Text, last)
			}
		})
	}
}
