package invoker

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// lines makes log lines of texts.
func lines(texts ...string) []actions.LogLine {
	var found []actions.LogLine
	for _, text := range texts {
		found = append(found, actions.LogLine{Stream: actions.Stderr, Text: text})
	}
	return found
}

// TestFailuresInTheLog: the first failure of a kind shows what was printed, its repeats
// are quiet, and after a good start it is the first again.
func TestFailuresInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		v, f := newFleet(Config{Log: slog.New(slog.NewJSONHandler(&log, nil))})
		defer closeNow(t, v)
		broken := func() error {
			return fmt.Errorf("start: %w", &actions.Error{Code: actions.Failed, Msg: "KeyError", Logs: lines("Traceback:", "  line 3")})
		}
		f.startErrs = []error{broken(), broken(), errors.New("no memory"), broken(), nil, broken()}
		for range 4 {
			if _, err := invoke(t, v, `{}`); err == nil {
				t.Fatal("it started")
			}
			time.Sleep(maxDelay)
		}
		mustInvoke(t, v, `{}`)
		_, _ = invoke(t, v, `{"Die":true}`)
		_, _ = invoke(t, v, `{}`)
		type entry struct{ Level, Msg, Error, Output string }
		var got []entry
		for line := range strings.Lines(log.String()) {
			var e entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(e.Msg, "instance did not start") {
				got = append(got, e)
			}
		}
		cause := broken().Error()
		first := entry{"ERROR", "instance did not start", cause, "Traceback:\n  line 3"}
		want := []entry{first, {"WARN", "instance did not start again", cause, ""}, {"ERROR", "instance did not start", "no memory", ""}, first, first}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %q,\nwant %q", got, want)
		}
	})
}

func TestLastOutput(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprint("line ", i))
	}
	long := strings.Repeat("x", maxOutput)
	tests := map[string]struct {
		in   []string
		want string
	}{
		"one":       {[]string{"a"}, "a"},
		"empty":     {[]string{""}, ""},
		"many":      {many, strings.Join(many[10:], "\n")},
		"full":      {[]string{long}, long},
		"long":      {[]string{"before", "y" + long, "end"}, long[:maxOutput-4] + "\nend"},
		"full last": {[]string{"before", long}, long},
		"cut rune":  {[]string{"ü" + long[1:]}, long[1:]},
	}
	for name, test := range tests {
		if got := lastOutput(lines(test.in...)); got != test.want {
			t.Errorf("%s: got %d bytes, %.60q, want %d, %.60q", name, len(got), got, len(test.want), test.want)
		}
	}
}
