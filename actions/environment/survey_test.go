package environment

import (
	"bytes"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSurveyBroken shows that broken distributions do not hide the others.
func TestSurveyBroken(t *testing.T) {
	venv := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.CommandContext(t.Context(), python(t), "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	site, err := filepath.Glob(filepath.Join(venv, "lib/python3*/site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatalf("got %q, %v", site, err)
	}
	meta := func(name string) string { return "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1\n\n" }
	for name, content := range map[string]string{
		"a_text-1.dist-info/METADATA":            "Name: a\xff\xfe\n",
		"b_direct-1.dist-info/METADATA":          meta("b-direct"),
		"b_direct-1.dist-info/direct_url.json":   "{",
		"c_list-1.dist-info/METADATA":            meta("c-list"),
		"c_list-1.dist-info/direct_url.json":     "[]",
		"d_empty-1.dist-info/RECORD":             "",
		"module-1.dist-info/METADATA":            meta("module"),
		"module-1.dist-info/entry_points.txt":    entry("x"),
		"z_entries-1.dist-info/METADATA":         meta("z-entries"),
		"z_entries-1.dist-info/entry_points.txt": "[deepaas.v2.model\xff]\n=\n",
	} {
		write(t, site[0], name, content)
	}
	var log bytes.Buffer
	e := New(Config{Python: python(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	found, err := e.survey(t.Context(), venv, "/nowhere")
	if err != nil || len(found) != 1 || found[0].Name != "module" || len(found[0].EntryPoints) != 1 {
		t.Errorf("got %+v, %v, want the module alone", found, err)
	}
	for _, want := range []string{"a_text", "b_direct", "c_list", "z_entries"} {
		if got := strings.Count(log.String(), want+"-1.dist-info"); got != 1 {
			t.Errorf("%s is logged %d times, want once: %s", want, got, &log)
		}
	}
}
