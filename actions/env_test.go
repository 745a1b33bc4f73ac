package actions

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPossibleEnv(t *testing.T) {
	longest := strings.Repeat("x", 128<<10-4)
	for _, test := range []struct{ name, value, wrong string }{
		{"A", "b=c\nd", ""},
		{"a b", "", ""},
		{"1.ü-%", "x", ""},
		{"__OW_API_HOST", "h", ""},
		{"LD", longest, ""},
		{"", "x", `env: "" cannot be a variable: its name is empty`},
		{"A=B", "x", `env: "A=B" cannot be a variable: its name has a '='`},
		{"A\x00", "x", `env: "A\x00" cannot be a variable: its name has`},
		{"A", "\x00", `env: "A" cannot be a variable: its value has a zero byte`},
		{"LD", longest + "x", `env: "LD" cannot be a variable: it is longer than 131070 bytes`},
		{"DEEPFN_WORKER", "1", `env: "DEEPFN_WORKER" cannot be a variable: it belongs to deepfn`},
	} {
		env := map[string]string{test.name: test.value, "KEPT": "k"}
		err := CheckEnv(env)
		possible, wrong := PossibleEnv(env)
		if test.wrong == "" {
			if err != nil || len(wrong) > 0 || len(possible) != 2 || possible[test.name] != test.value {
				t.Errorf("%.40q: got %v, %v", test.name, err, wrong)
			}
			// What is possible is so: a program starts with it.
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^$")
			cmd.Env = []string{test.name + "=" + test.value}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%.40q: %v %s", test.name, err, out)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), test.wrong) {
			t.Errorf("%.40q: got %v, want %s", test.name, err, test.wrong)
		}
		if len(possible) != 1 || possible["KEPT"] != "k" || len(wrong) != 1 {
			t.Errorf("%.40q: got %d variables, %v", test.name, len(possible), wrong)
		}
	}
	if err := CheckEnv(nil); err != nil {
		t.Error(err)
	}
}

func TestPossibleEnvNamesAll(t *testing.T) {
	_, wrong := PossibleEnv(map[string]string{"B=": "", "": "", "A=": ""})
	for i, want := range []string{`""`, `"A="`, `"B="`} {
		if len(wrong) != 3 || !strings.HasPrefix(wrong[i].Error(), want) {
			t.Fatalf("got %v", wrong)
		}
	}
}
