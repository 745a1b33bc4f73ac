package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

// output are the records of a log in JSON that say what a model printed, without their
// times.
func output(t *testing.T, log string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(log) {
		var record struct {
			Level, Msg, Model, Stream, Line string
			RequestID                       string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(record.Msg, "model output") {
			found = append(found, strings.Join([]string{record.Level, record.Msg, record.Model, record.RequestID, record.Stream, record.Line}, "|"))
		}
	}
	return found
}

var printedLines = []actions.LogLine{
	{Stream: actions.Stdout, Text: "begun"},
	{Stream: actions.Stderr, Text: `  File "a.py", line 1`},
	{Stream: actions.Stderr, Text: sentinel},
}

// talking answers, or fails with that error, after printing.
func talking(err error) *fakeInvoker {
	return &fakeInvoker{answer: func(context.Context, actions.Request) (actions.Response, error) {
		if err == nil {
			return actions.Response{ContentType: jsonType, Data: []byte(`1`), Logs: printedLines}, nil
		}
		return actions.Response{}, err
	}}
}

// What a model prints is in the log, whether it answers or fails; not twice where it is in
// the activation's.
func TestModelOutput(t *testing.T) {
	fails := func(code actions.Code) error { return &actions.Error{Code: code, Msg: "x", Logs: printedLines} }
	for _, tt := range []struct {
		name  string
		err   error
		level string
	}{
		{"answers", nil, "INFO"},
		{"failed", fails(actions.Failed), "WARN"},
		{"died", fails(actions.Unavailable), "WARN"},
		{"broke the protocol", fmt.Errorf("call: %w", fails(actions.Internal)), "WARN"},
		{"invalid", fails(actions.Invalid), "INFO"},
		{"too late", fails(actions.Deadline), "INFO"},
		{"caller left", fails(actions.Canceled), "INFO"},
		{"of another kind", errors.New("x"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log lockedBuffer
			s, st := newServer(t, Config{Model: "echo", Invoker: talking(tt.err), Log: slog.New(slog.NewJSONHandler(&log, nil))})
			var want []string
			if tt.level != "" {
				begin := tt.level + "|model output|echo|id-1|"
				want = []string{begin + "stdout|begun", begin + `stderr|  File "a.py", line 1`, begin + "stderr|(sentinel)"}
			}
			post(t, s, predictPath, `{}`)
			if diff := cmp.Diff(want, output(t, log.String())); diff != "" {
				t.Error(diff)
			}
			post(t, s, "/run", `{}`)
			if diff := cmp.Diff(want, output(t, log.String())); diff != "" {
				t.Errorf("/run logged it, too: %s", diff)
			}
			if printed := strings.Contains(st.out.String(), "begun"); printed != (tt.level != "") {
				t.Errorf("got the activation's logs %q", st.out.String())
			}
		})
	}
}

// The parsing of a training's arguments is a call too.
func TestModelOutputOfTrain(t *testing.T) {
	var log lockedBuffer
	s, _ := newServer(t, Config{
		Invoker: talking(nil), Catalog: module(), Jobs: &fakeJobs{}, Log: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	post(t, s, trainPath, `{}`)
	if got := output(t, log.String()); len(got) != len(printedLines) {
		t.Errorf("got %q", got)
	}
}

// A model that prints much costs the log little.
func TestMuchModelOutput(t *testing.T) {
	var lines []actions.LogLine
	for i := range 1000 {
		lines = append(lines, actions.LogLine{Stream: actions.Stdout, Text: fmt.Sprintf("%d%s", i, strings.Repeat("é", maxLine))})
	}
	var log lockedBuffer
	inv := &fakeInvoker{answer: failing(&actions.Error{Code: actions.Failed, Logs: lines})}
	s, _ := newServer(t, Config{Invoker: inv, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	post(t, s, predictPath, `{}`)
	got := output(t, log.String())
	if len(got) != maxOutput+1 || !strings.Contains(got[0], "|950é") || !strings.Contains(got[maxOutput-1], "|999é") ||
		got[maxOutput] != "WARN|model output left out|echo|id-1||" || !strings.Contains(log.String(), `"lines":950`) {
		t.Errorf("got %d lines, the last %q", len(got), got[len(got)-1])
	}
	if n := len(log.String()); n > (maxOutput+2)*(maxLine+500) {
		t.Errorf("got %d bytes of log", n)
	}
	quiet, st := newServer(t, Config{Invoker: inv, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))})
	before := len(log.String())
	post(t, quiet, predictPath, `{}`)
	if len(log.String()) != before || st.out.String() != "" {
		t.Error("a quiet log got lines")
	}
}
