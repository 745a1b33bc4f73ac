package launcher_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// A variable of an /init that no program can have does not keep the others from theirs,
// in a fresh interpreter and in a forked one.
func TestEnvironmentOfInit(t *testing.T) {
	b := open(t, launcher.Config{})
	run := action(t, about)
	run.Model.Env = map[string]string{"a b": "odd", "A=B": "x", "": "x", "ZERO": "\x00", "DEEPFN_WORKER": "1", "LONG": strings.Repeat("x", 1<<20)}
	given := maps.Clone(run.Model.Env)
	for _, forked := range []bool{false, true} {
		w := b.start(t, run)
		if forked {
			w = b.forked(t, run)
		}
		got, _ := ask(t, w, `{"env": ["a b", "ZERO", "DEEPFN_WORKER", "LONG"]}`)
		want := map[string]any{"a b": "odd", "ZERO": nil, "DEEPFN_WORKER": nil, "LONG": nil}
		if diff := cmp.Diff(want, got["env"]); diff != "" || got["forked"] != forked {
			t.Errorf("forked %v: %v %s", forked, got["forked"], diff)
		}
	}
	for _, name := range []string{"", "A=B", "ZERO", "DEEPFN_WORKER", "LONG"} {
		if want := `error="\"` + name + `\" cannot be a variable: `; !strings.Contains(b.log.String(), want) {
			t.Errorf("the log does not say %s: %s", want, b.log.String())
		}
	}
	if diff := cmp.Diff(given, run.Model.Env); diff != "" {
		t.Errorf("the caller's variables were changed: %s", diff)
	}
}
