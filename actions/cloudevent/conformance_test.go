package cloudevent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

// The cases of github.com/cloudevents/conformance, as their authors keep them: `make ready`
// has them, and the program that sends them.

// A conformanceCase is an event as the cases have it.
type conformanceCase struct {
	ContextAttributes map[string]string `yaml:"ContextAttributes"`
	Data              string            `yaml:"Data"`
}

// conformance returns the path of one of its files.
func conformance(t *testing.T, elem ...string) string {
	t.Helper()
	dir := os.Getenv("DEEPFN_TEST_CLOUDEVENTS")
	if dir == "" {
		t.Fatal("DEEPFN_TEST_CLOUDEVENTS names no folder with the conformance cases: run make test")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// conformanceCases are the events of one version.
func conformanceCases(t *testing.T, version string) []cloudevent.Event {
	t.Helper()
	files, err := filepath.Glob(conformance(t, "cases", "yaml", "v"+version, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no cases of %s: %v", version, err)
	}
	var events []cloudevent.Event
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var c conformanceCase
			if err := d.Decode(&c); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(name, err)
			}
			a := c.ContextAttributes
			events = append(events, cloudevent.Event{
				SpecVersion: a["specversion"], ID: a["id"], Source: a["source"], Type: a["type"],
				DataContentType: a["datacontenttype"], Data: []byte(c.Data),
			})
			if len(a) != 5 {
				t.Fatalf("%s: a case has the attributes %v, want five of them", name, a)
			}
		}
	}
	return events
}

func TestConformanceCases(t *testing.T) {
	for _, version := range []string{cloudevent.V1, cloudevent.V03} {
		cases := conformanceCases(t, version)
		if len(cases) < 6 {
			t.Errorf("%s: got %d cases, want 6 at least", version, len(cases))
		}
		for _, want := range cases {
			t.Run(version+" "+want.ID, func(t *testing.T) {
				got, err := cloudevent.ParseBinary(want.DataContentType, want.BinaryHeader, want.Data)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("binary: %v\n%s", err, diff)
				}
				if want.IsJSON() {
					want.Data = bytes.TrimSpace(want.Data) // which is no part of a value
				}
				got, err = cloudevent.ParseStructured(want.AppendJSON(nil))
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("structured: %v\n%s", err, diff)
				}
			})
		}
		for i := range cases {
			if cases[i].IsJSON() {
				cases[i].Data = bytes.TrimSpace(cases[i].Data)
			}
		}
		got, wrong, err := cloudevent.ParseBatch(cloudevent.AppendBatch(nil, cases))
		if diff := cmp.Diff(cases, got); err != nil || wrong != nil || diff != "" {
			t.Errorf("%s: batched: %v, %v\n%s", version, wrong, err, diff)
		}
	}
}

// The authors' program sends the cases.
func TestConformanceSender(t *testing.T) {
	for _, version := range []string{cloudevent.V1, cloudevent.V03} {
		var got []cloudevent.Event
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			e, err := cloudevent.ParseBinary(r.Header.Get("Content-Type"), headerOf(r.Header), body)
			if err != nil {
				t.Error(err)
				w.WriteHeader(http.StatusBadRequest)
			}
			got = append(got, e) // the program sends one after the other
		}))
		out, err := exec.CommandContext(t.Context(), conformance(t, "cloudevents"), "invoke", server.URL, "-f", conformance(t, "cases", "yaml", "v"+version)).CombinedOutput()
		server.Close()
		if err != nil {
			t.Errorf("%s: %v: %s", version, err, out)
		}
		if diff := cmp.Diff(conformanceCases(t, version), got); diff != "" {
			t.Errorf("%s: (-cases +got)\n%s", version, diff)
		}
	}
}

// The authors' listener reads what is written here.
func TestConformanceListener(t *testing.T) {
	for _, mode := range []cloudevent.Mode{cloudevent.Binary, cloudevent.Structured} {
		for _, version := range []string{cloudevent.V1, cloudevent.V03} {
			for _, e := range conformanceCases(t, version) {
				if mode == cloudevent.Structured && !e.IsJSON() {
					continue // it does not read a text in a string as a text
				}
				t.Run(fmt.Sprintf("%s %s %d", version, e.ID, mode), func(t *testing.T) { checkListener(t, mode, e) })
			}
		}
	}
}

// checkListener sends an event to the authors' listener, which says what it got.
func checkListener(t *testing.T, mode cloudevent.Mode, e cloudevent.Event) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, conformance(t, "cloudevents"), "listen", "-P", "0")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Fscanf(stderr, "listening on :%d\n", &port); err != nil {
		t.Fatal(err)
	}
	h, body := http.Header{}, e.Data
	if mode == cloudevent.Structured {
		h.Set("Content-Type", cloudevent.StructuredType)
		body = e.AppendJSON(nil)
	} else {
		e.BinaryHeader(func(name, value string) { h.Set(name, value) })
		h.Set("Content-Type", e.DataContentType)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", port), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	cancel()
	_ = cmd.Wait() // it was killed
	var got conformanceCase
	if err := yaml.Unmarshal([]byte(strings.TrimSuffix(stdout.String(), "---\n")), &got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %d, %v: %s", resp.StatusCode, err, stdout.String())
	}
	want := map[string]string{"specversion": e.SpecVersion, "id": e.ID, "source": e.Source, "type": e.Type, "datacontenttype": e.DataContentType}
	if diff := cmp.Diff(want, got.ContextAttributes); diff != "" || strings.TrimSpace(got.Data) != strings.TrimSpace(string(e.Data)) {
		t.Errorf("(-sent +got) data %q\n%s", got.Data, diff)
	}
}

// The scenarios of the feature of the HTTP binding that reading a message is.
func TestConformanceFeature(t *testing.T) {
	text, err := os.ReadFile(conformance(t, "cases", "features", "http-protocol-binding.feature"))
	if err != nil {
		t.Fatal(err)
	}
	scenarios := strings.Split(string(text), "Scenario Outline: ")[1:]
	count := 0
	for _, scenario := range scenarios {
		name, _, _ := strings.Cut(scenario, "\n")
		for _, contentType := range column(t, scenario, "contentType") {
			count++
			t.Run(strings.ReplaceAll(name, "<contentType>", contentType), func(t *testing.T) {
				checkScenario(t, strings.ReplaceAll(scenario, "<contentType>", contentType))
			})
		}
	}
	if count != 4 {
		t.Errorf("got %d scenarios, want 4", count)
	}
}

// checkScenario parses the message of a scenario and wants what it says of it.
func checkScenario(t *testing.T, scenario string) {
	t.Helper()
	quoted := strings.Split(scenario, `"""`)
	if len(quoted) < 5 {
		t.Fatalf("want a message and its data in:\n%s", scenario)
	}
	head, body, _ := strings.Cut(strings.TrimSpace(quoted[1]), "\n\n")
	h := http.Header{}
	for line := range strings.Lines(head) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			h.Set(name, value)
		}
	}
	var got cloudevent.Event
	var err error
	switch contentType := h.Get("Content-Type"); cloudevent.ModeOf(contentType, headerOf(h)) {
	case cloudevent.Binary:
		got, err = cloudevent.ParseBinary(contentType, headerOf(h), []byte(body))
	case cloudevent.Structured:
		got, err = cloudevent.ParseStructured([]byte(body))
	case cloudevent.None, cloudevent.Batched:
		t.Fatal("got no event")
	}
	if err != nil {
		t.Fatal(err)
	}
	said := ours(got)
	for _, row := range table(scenario, "key") {
		if said[row[0]] != row[1] {
			t.Errorf("%s: got %q, want %q", row[0], said[row[0]], row[1])
		}
	}
	var data, want any
	if err := errors.Join(json.Unmarshal(got.Data, &data), json.Unmarshal([]byte(quoted[3]), &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Errorf("data (-want +got)\n%s", diff)
	}
}

// table returns the rows of the table of a scenario whose first column has a title.
func table(scenario, title string) [][]string {
	var rows [][]string
	inside := false
	for line := range strings.Lines(scenario) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		if inside {
			rows = append(rows, row)
		}
		inside = inside || row[0] == title
	}
	return rows
}

func column(t *testing.T, scenario, title string) []string {
	t.Helper()
	var column []string
	for _, row := range table(scenario, title) {
		column = append(column, row[0])
	}
	if len(column) == 0 {
		t.Fatalf("no %s in:\n%s", title, scenario)
	}
	return column
}
