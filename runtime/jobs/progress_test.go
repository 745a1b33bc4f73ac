package jobs

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

func TestParseMark(t *testing.T) {
	const bar = "| 42/100 [00:01<00:02, 30.1it/s]"
	tests := map[string]struct {
		line   string
		stream actions.Stream // default stderr
		want   mark
		no     bool
	}{
		"fraction":            {line: "deepfn-progress: 0.42 epoch 3", want: mark{fraction: 0.42, text: "epoch 3", known: true, told: true}},
		"stdout":              {line: "deepfn-progress: 0.42", stream: actions.Stdout, want: mark{fraction: 0.42, known: true, told: true}},
		"percent":             {line: "deepfn-progress: 42%  text ", want: mark{fraction: 0.42, text: "text", known: true, told: true}},
		"no space":            {line: "deepfn-progress:1", want: mark{fraction: 1, known: true, told: true}},
		"over":                {line: "deepfn-progress: 1e3", want: mark{fraction: 1, known: true, told: true}},
		"far over":            {line: "deepfn-progress: 1e999", want: mark{fraction: 1, known: true, told: true}},
		"under":               {line: "deepfn-progress: -3%", want: mark{known: true, told: true}},
		"minus zero":          {line: "deepfn-progress: -0", want: mark{known: true, told: true}},
		"colour":              {line: "\x1b[32mdeepfn-progress: 0.5 x\x1b[0m", want: mark{fraction: 0.5, text: "x", known: true, told: true}},
		"long text":           {line: "deepfn-progress: 0 " + strings.Repeat("é", 500), want: mark{text: strings.Repeat("é", 128), known: true, told: true}},
		"not UTF-8":           {line: "deepfn-progress: 0 \xff", want: mark{text: "\uFFFD", known: true, told: true}},
		"nan":                 {line: "deepfn-progress: NaN", no: true},
		"infinite":            {line: "deepfn-progress: Inf", no: true},
		"hexadecimal":         {line: "deepfn-progress: 0x1p-2", no: true},
		"no number":           {line: "deepfn-progress: soon", no: true},
		"empty":               {line: "deepfn-progress:", no: true},
		"inside":              {line: "see deepfn-progress: 0.5", no: true},
		"blank":               {line: "", no: true},
		"bar":                 {line: " 42%|████▏     " + bar, want: mark{fraction: 0.42, known: true}},
		"bar of ascii":        {line: " 42%|####1     " + bar, want: mark{fraction: 0.42, known: true}},
		"bar with text":       {line: "epoch 3:  42%|████▏     " + bar, want: mark{fraction: 0.42, text: "epoch 3", known: true}},
		"bar, text, no space": {line: "train:42%|████▏     " + bar, want: mark{fraction: 0.42, text: "train", known: true}},
		"full bar":            {line: "100%|██████████| 100/100 [01:02:03<00:00, 30.05it/s]", want: mark{fraction: 1, known: true}},
		"first bar":           {line: "  0%|          | 0/100 [00:00<?, ?it/s]", want: mark{known: true}},
		"scaled bar":          {line: " 11%|█         | 1.05M/9.91M [00:00<00:03, 2.4MB/s, loss=0.3]", want: mark{fraction: 0.11, known: true}},
		"second bar":          {line: "\x1b[Ain:  50%|█████     | 1/2 [00:00<00:00,  9.9it/s]", want: mark{fraction: 0.5, text: "in", known: true}},
		"counter":             {line: "files: 42it [00:01, 30.12it/s]", want: mark{}},
		"bar on stdout":       {line: " 42%|████▏     " + bar, stream: actions.Stdout, no: true},
		"half a bar":          {line: " 42%|████", no: true},
		"table":               {line: "loss | 42%| 3 | 4", no: true},
		"text before":         {line: "x42%|██" + bar, no: true},
		"no percent":          {line: "%|██" + bar, no: true},
		"two points":          {line: "4.2.1%|██" + bar, no: true},
		"a counter's sister":  {line: "rabbit [00:01, now]", no: true},
		"escape without end":  {line: "\x1b[", no: true},
		"escape of numbers":   {line: "\x1b[31", no: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.stream == 0 {
				test.stream = actions.Stderr
			}
			got, ok := parseMark(test.stream, test.line)
			if ok == test.no || (ok && got != test.want) {
				t.Errorf("got %+v, %t, want %+v, %t", got, ok, test.want, !test.no)
			}
		})
	}
}

func FuzzParseMark(f *testing.F) {
	for _, line := range []string{
		"deepfn-progress: 0.42 text", "deepfn-progress: 42%", "\x1b[A", "files: 42it [00:01, 30.12it/s]",
		"epoch 3:  42%|####1     | 42/100 [00:01<00:02, 30.1it/s]", "100%|##########| 1/1 [00:00<00:00]",
	} {
		f.Add(uint8(actions.Stderr), line)
		f.Add(uint8(actions.Stdout), line)
	}
	f.Fuzz(func(t *testing.T, stream uint8, line string) {
		m, ok := parseMark(actions.Stream(stream), line)
		switch {
		case ok && !(m.fraction >= 0 && m.fraction <= 1):
			t.Errorf("%q: fraction %v", line, m.fraction)
		case len(m.text) > maxText || !utf8.ValidString(m.text):
			t.Errorf("%q: text %q", line, m.text)
		case ok && m.told && !strings.Contains(line, progressPrefix):
			t.Errorf("%q: nobody said that", line)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	const id = "0123456789abcdef0123456789abcdef"
	f.Add([]byte(`{"version":1,"job":{"id":"` + id + `","model":"m","verb":"train","args":{},"state":"done",` +
		`"created":"2026-01-02T03:04:05Z","progress":{"fraction":0.5,"time":"2026-01-02T03:04:05Z"}},` +
		`"result":{"content_type":"application/json","filename":"","size":3,"json":true}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"job":{"args":{"a":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parseRecord(data, id)
		if err != nil {
			return
		}
		if rec.Job.ID != id || rec.Job.Model == "" || !isObject(rec.Job.Args) {
			t.Errorf("taken: %+v", rec)
		}
		if r := rec.Result; r != nil && (r.Size < 0 || rec.Job.State != actions.JobDone) {
			t.Errorf("taken with result %+v in state %s", r, rec.Job.State)
		}
		s := &store{}
		if p := rec.Job.Progress; p != nil && !(p.Fraction >= 0 && p.Fraction <= 1) {
			t.Errorf("progress %v", p)
		}
		if r := rec.Result; r != nil && !r.JSON {
			if _, ok := s.shown(rec, rec.size()); !ok {
				t.Error("not shown")
			}
		}
	})
}
