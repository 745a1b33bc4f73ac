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
