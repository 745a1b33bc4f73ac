package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

func TestProgressText(t *testing.T) {
	for want, p := range map[string]actions.Progress{
		"  0%  0 rows": {},
		" 42%  420,000 of 1,000,000 rows, 12,345/s, 47 s left, 3 failed, 1 chunk again": {
			Fraction: 0.42, Rows: 420_000, Total: 1_000_000, Rate: 12_345.6, Remaining: 46.98, Failed: 3, Redone: 1,
		},
		" 99%  999 rows, 2.5/s, 1:02 left, 2 chunks again": {Fraction: 0.9999, Rows: 999, Rate: 2.5, Remaining: 62, Redone: 2},
		"100%  1,000 rows, 10/s, 3:01:02 left":             {Fraction: 1, Rows: 1000, Rate: 10, Remaining: 10862},
	} {
		if got := progressText(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestBar draws a bar on a terminal, and lines where there is none.
func TestBar(t *testing.T) {
	for name, test := range map[string]struct {
		terminal bool
		want     string
	}{
		"lines": {false, "deepfn: a line\ndeepfn:  50%  5 rows\ndeepfn: 100%  10 rows\n"},
		"bar": {true, "[------------------------]   0%  0 rows" + "\r\x1b[K" + "deepfn: a line\n" + "[------------------------]   0%  0 rows" +
			"\r\x1b[K" + "[############------------]  50%  5 rows" + "\r\x1b[K" + "[########################] 100%  10 rows\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			now := time.Unix(1000, 0)
			b := &bar{w: &out, terminal: test.terminal, now: func() time.Time { return now }, width: func() int { return 0 }}
			b.show(actions.Progress{})
			b.show(actions.Progress{Fraction: 0.1, Rows: 1}) // too soon
			b.last = &actions.Progress{}
			b.line("a line")
			now = now.Add(lineTime)
			b.show(actions.Progress{Fraction: 0.5, Rows: 5})
			b.show(actions.Progress{Fraction: 1, Rows: 10})
			if !test.terminal {
				now = now.Add(lineTime)
				b.show(actions.Progress{Fraction: 1, Rows: 10}) // which end does not repeat
			}
			b.end()
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFitted shows that a progress takes one line, however narrow a terminal is.
func TestFitted(t *testing.T) {
	for width, want := range map[int]string{0: "[##--]  50%  5 rows", 20: "[##--]  50%  5 rows", 19: " 50%  5 rows", 13: " 50%  5 rows", 12: " 50%  5 row", 1: ""} {
		if got := fitted("[##--] ", " 50%  5 rows", width); got != want {
			t.Errorf("width %d: got %q, want %q", width, got, want)
		}
	}
}

func TestURLOfPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(dir, "a b.csv"))
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, test := range []struct {
		text   string
		folder bool
		want   string
	}{
		{"a b.csv", false, "file://" + dir + "/a%20b.csv"},
		{"link/a b.csv", false, "file://" + dir + "/a%20b.csv"},
		{".", false, "file://" + dir + "/"},
		{"link", false, "file://" + dir + "/"},
		{"link/new/out", true, "file://" + dir + "/new/out/"},
		{"new/", false, "file://" + dir + "/new/"},
		{"new", false, "file://" + dir + "/new"},
		{"s3://bucket/x", false, "s3://bucket/x"},
		{"s3://bucket/x", true, "s3://bucket/x/"},
		{"s3://bucket/x/", true, "s3://bucket/x/"},
		{"/", true, "file:///"},
	} {
		if got, err := urlOfPath(test.text, test.folder); err != nil || got != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.text, got, err, test.want)
		}
	}
}

// TestBatchFlags has a flag win over a file, each of them.
func TestBatchFlags(t *testing.T) {
	spec := filepath.Join(t.TempDir(), "spec.json")
	const all = `{"model":"m","input":{"url":"s3://a/","format":"csv","match":"*.csv","key":"k","delimiter":";","text":["t"]},
		"output":{"url":"s3://b/","format":"csv","join":["a"],"select":["b"]},"arguments":{"x":1},"map":{"y":"z"},
		"batching":{"size":1,"argument":"rows","answer":"list"},"concurrency":1,"chunk_rows":1,"chunk_bytes":1,"max_errors":"1","retries":1,
		"through":"http://t","sink":"http://s"}`
	if err := os.WriteFile(spec, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(args ...string) (actions.Batch, error) {
		t.Helper()
		var b batchFlags
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		b.add(f)
		b.addServers(f)
		if err := f.Parse(append([]string{"--spec", spec}, args...)); err != nil {
			t.Fatal(err)
		}
		return b.read("m")
	}
	want, err := actions.ParseBatch([]byte(all))
	if err != nil {
		t.Fatal(err)
	}
	got, err := read()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("the file alone: %v (-want +got):\n%s", err, diff)
	}
	want = actions.Batch{
		Model:     "m",
		Input:     actions.BatchInput{URL: "s3://c/", Format: "tar", Match: "*", Key: "l", Delimiter: "|", Text: []string{"u", "v"}},
		Output:    actions.BatchOutput{URL: "s3://d/", Format: "zip", Join: []string{"c", "d"}, Select: []string{"e"}},
		Arguments: map[string]json.RawMessage{"x": json.RawMessage(`"2"`), "w": json.RawMessage(`[3]`)},
		Map:       map[string]string{"y": "u.v", "q": "r"},
		Batching:  actions.Batching{Size: 2, Argument: "other", Columns: true, Answer: "answers"}, Concurrency: 2, ChunkRows: 2,
		ChunkBytes: 2 << 20, MaxErrors: "2%", Retries: -1, Through: "http://u", Sink: "http://v",
	}
	got, err = read("--input", "s3://c/", "--format", "tar", "--match", "*", "--key", "l", "--delimiter", "|", "--text", "u,v", "--output", "s3://d/",
		"--output-format", "zip", "--join", "c,d", "--select", "e", "--arg", "x=2", "--arg", "w:=[3]", "--map", "y=u.v", "--map", "q=r",
		"--batch-size", "2", "--batch-argument", "other", "--batch-columns", "--batch-answer", "answers", "--concurrency", "2",
		"--chunk-rows", "2", "--chunk-bytes", "2 MiB", "--max-errors", "2%", "--retries", "-1", "--through", "http://u", "--sink", "http://v")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("flags: %v (-want +got):\n%s", err, diff)
	}
}

func TestWhiskAction(t *testing.T) {
	for text, want := range map[string]string{
		"openwhisk:/guest/a":      "guest a true",
		"openwhisk:/_/p/a":        "_ p/a true",
		"openwhisk:/guest":        " ",
		"openwhisk:/guest/":       " ",
		"openwhisk:guest/a":       " ",
		"openwhisk:/guest/p/a/b":  " ",
		"https://example.com/x/y": " ",
	} {
		namespace, action, ok := whiskAction(text)
		if got := namespace + " " + action; ok != strings.HasSuffix(want, " true") || ok && got+" true" != want {
			t.Errorf("%s: got %q %v, want %q", text, got, ok, want)
		}
	}
}

func TestPreviewText(t *testing.T) {
	p := batch.Preview{
		Batch: actions.Batch{
			Input: actions.BatchInput{URL: "s3://in/", Format: actions.Objects}, Output: actions.BatchOutput{URL: "s3://out/", Format: actions.CSV},
			ChunkRows: 64, ChunkBytes: 8 << 20,
		},
		Objects: 10_000, Size: 100 << 20, Total: 10_000, Args: json.RawMessage(`{"a": 1}`),
		Files:  []actions.File{{Name: "image", Filename: "a.png", ContentType: "image/png", Data: make([]byte, 2048)}},
		Answer: actions.Response{ContentType: "application/json", Data: []byte(`{"text":"` + strings.Repeat("x", 500) + `"}`)},
		Read:   64, Rows: 40, Failed: 1, Took: 2 * time.Second, Bytes: 64 * 10240,
	}
	want := `input      s3://in/: objects, 10,000 objects, 100 MiB
output     s3://out/: csv
rows       10,000
chunks     about 157, each of 64 rows and 8 MiB at most
arguments  {"a": 1}
file       image=a.png, image/png, 2 KiB
answer     {"text":"` + strings.Repeat("x", previewWidth-9) + `…
speed      20/s, measured with 40 rows and 2 instances: about 8:20 for all
failed     1 of 40
`
	if diff := cmp.Diff(want, previewText(p, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p.Total, p.Err, p.Files, p.Took, p.Failed, p.Unselected = 0, errors.New("no number"), nil, 0, 0, []string{"a", "b.c"}
	got := previewText(p, 1)
	for _, words := range []string{"rows       about 10,240\n", "error      no number\n", "select     no answer so far has a, b.c\n"} {
		if !strings.Contains(got, words) {
			t.Errorf("got %s, want %q", got, words)
		}
	}
}
