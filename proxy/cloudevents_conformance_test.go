package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// The cases of github.com/cloudevents/conformance, as their authors keep them, are events for a
// function that takes bytes and any arguments.

// conformanceFile is the path of one of the files that `make ready` has.
func conformanceFile(tb testing.TB, elem ...string) string {
	tb.Helper()
	dir := os.Getenv("DEEPFN_TEST_CLOUDEVENTS")
	if dir == "" {
		tb.Fatal("DEEPFN_TEST_CLOUDEVENTS names no folder with the conformance cases: run make test")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// conformanceCases are the events of one version.
func conformanceCases(tb testing.TB, version string) []cloudevent.Event {
	tb.Helper()
	files, err := filepath.Glob(conformanceFile(tb, "cases", "yaml", "v"+version, "*.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	var events []cloudevent.Event
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var c struct {
				Attributes map[string]string `yaml:"ContextAttributes"`
				Data       string            `yaml:"Data"`
			}
			if err := d.Decode(&c); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				tb.Fatal(name, err)
			}
			a := c.Attributes
			events = append(events, cloudevent.Event{
				SpecVersion: a["specversion"], ID: a["id"], Source: a["source"], Type: a["type"],
				DataContentType: a["datacontenttype"], Data: []byte(c.Data),
			})
		}
	}
	if len(events) < 6 {
		tb.Fatalf("got %d cases of %s, want 6 at least", len(events), version)
	}
	return events
}

// conformanceServer is a function that takes bytes and any arguments.
func conformanceServer(tb testing.TB) (*running, *fakeInvoker) {
	tb.Helper()
	inv := &fakeInvoker{info: json.RawMessage(bytesInfo)}
	return start(tb, Config{Model: "echo", Invoker: inv, Catalog: oneModel{actions.Model{Name: "echo", Runtime: actions.Python}}}), inv
}

// isArguments says whether the data of a case are arguments in JSON; others are the model's file.
func isArguments(e *cloudevent.Event) bool {
	return e.IsJSON() && (e.Data[0] == '{' || e.Data[0] == '[')
}

// wantCase wants what a model got of a case, and what its sender did.
func wantCase(t *testing.T, e *cloudevent.Event, inv *fakeInvoker, status int, header map[string]string, body string) {
	t.Helper()
	if status != 200 || header["ce-causationid"] != e.ID || header["ce-specversion"] != e.SpecVersion || header["ce-type"] != cloudevent.Prediction {
		t.Errorf("got %d %v %s, want the answer to %s", status, header, body, e.ID)
	}
	got := inv.lastRequest()
	if isArguments(e) {
		if want := bytes.TrimSpace(e.Data); string(bytes.TrimSpace(got.Args)) != string(want) || len(got.Files) != 0 {
			t.Errorf("got the arguments %s and %d files, want %s", got.Args, len(got.Files), want)
		}
		return
	}
	want := e.Data
	if e.IsJSON() { // of a structured event the white space around it is not its own
		want = bytes.TrimSpace(want)
	}
	if len(got.Files) != 1 || !bytes.Equal(bytes.TrimSuffix(got.Files[0].Data, e.Data[len(want):]), want) || got.Files[0].ContentType != e.DataContentType {
		t.Errorf("got the files %q, want the data %q of the type %s", got.Files, e.Data, e.DataContentType)
	}
}

// send posts a message to the server and returns its answer.
func (r *running) send(t *testing.T, contentType string, header func(func(name, value string)), body []byte) (int, map[string]string, string) {
	t.Helper()
	lines := []string{"Content-Type: " + contentType}
	header(func(name, value string) { lines = append(lines, name+": "+value) })
	got, text := r.do(t, "POST", "/", string(body), lines...)
	attributes := map[string]string{}
	for name := range got.Header {
		attributes[strings.ToLower(name)] = got.Header.Get(name)
	}
	return got.StatusCode, attributes, text
}

func TestConformanceOfEvents(t *testing.T) {
	none := func(func(name, value string)) {}
	for _, version := range []string{cloudevent.V1, cloudevent.V03} {
		for _, e := range conformanceCases(t, version) {
			t.Run(fmt.Sprintf("%s %s binary", version, e.ID), func(t *testing.T) {
				r, inv := conformanceServer(t)
				status, header, body := r.send(t, e.DataContentType, e.BinaryHeader, e.Data)
				wantCase(t, &e, inv, status, header, body)
			})
			t.Run(fmt.Sprintf("%s %s structured", version, e.ID), func(t *testing.T) {
				r, inv := conformanceServer(t)
				status, header, body := r.send(t, cloudevent.StructuredType+"; charset=UTF-8", none, e.AppendJSON(nil))
				wantCase(t, &e, inv, status, header, body)
			})
		}
	}
}

// A batch of the cases is answered with a batch: an answer to each.
func TestConformanceOfBatches(t *testing.T) {
	for _, version := range []string{cloudevent.V1, cloudevent.V03} {
		t.Run(version, func(t *testing.T) {
			cases := conformanceCases(t, version)
			r, _ := conformanceServer(t)
			got, body := r.do(t, "POST", "/", string(cloudevent.AppendBatch(nil, cases)), "Content-Type: "+cloudevent.BatchType, "Accept: "+cloudevent.BatchType)
			answers, wrong, err := cloudevent.ParseBatch([]byte(body))
			if got.StatusCode != 200 || err != nil || wrong != nil || len(answers) != len(cases) {
				t.Fatalf("got %d, %d answers, %v, %v: %s", got.StatusCode, len(answers), wrong, err, body)
			}
			for i, a := range answers {
				if a.Extension("causationid") != cases[i].ID || a.Type != cloudevent.Prediction {
					t.Errorf("got %s for %s, want %s for %s", a.Type, a.Extension("causationid"), cloudevent.Prediction, cases[i].ID)
				}
			}
		})
	}
}

// The authors' program sends the cases, and has no fault to find.
func TestConformanceSender(t *testing.T) {
	for _, version := range []string{cloudevent.V1, cloudevent.V03} {
		t.Run(version, func(t *testing.T) {
			cases := conformanceCases(t, version)
			r, inv := conformanceServer(t)
			out, err := exec.CommandContext(t.Context(), conformanceFile(t, "cloudevents"), "invoke", "http://"+r.addr, "-f", conformanceFile(t, "cases", "yaml", "v"+version)).CombinedOutput()
			if err != nil || strings.Contains(string(out), "Error") {
				t.Errorf("got %v: %s", err, out)
			}
			if got := inv.calls(); got != len(cases) {
				t.Errorf("the function was called %d times, want %d", got, len(cases))
			}
		})
	}
}

// The messages of the feature of the HTTP binding, as bytes.
func TestConformanceFeature(t *testing.T) {
	text, err := os.ReadFile(conformanceFile(t, "cases", "features", "http-protocol-binding.feature"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, scenario := range strings.Split(string(text), "Scenario Outline: ")[1:] {
		quoted := strings.Split(scenario, `"""`)
		_, examples, ok := strings.Cut(scenario, "| contentType")
		if len(quoted) < 5 || !ok {
			t.Fatalf("want a message, its data and examples in:\n%s", scenario)
		}
		for _, row := range strings.Split(examples, "\n")[1:] {
			contentType := strings.TrimSpace(strings.Trim(strings.TrimSpace(row), "|"))
			if contentType == "" {
				continue
			}
			count++
			t.Run(contentType, func(t *testing.T) { checkMessage(t, strings.ReplaceAll(quoted[1], "<contentType>", contentType)) })
		}
	}
	if count != 4 {
		t.Errorf("got %d scenarios, want 4", count)
	}
}

// checkMessage sends a message whose event is that of the feature.
func checkMessage(t *testing.T, message string) {
	t.Helper()
	head, body, _ := strings.Cut(strings.TrimSpace(message), "\n\n")
	var lines []string
	for _, line := range strings.Split(head, "\n")[1:] {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "Content-Length") && !strings.HasPrefix(line, "Host") {
			lines = append(lines, line)
		}
	}
	r, inv := conformanceServer(t)
	got, text := r.do(t, "POST", "/", body, lines...)
	if got.StatusCode != 200 || got.Header.Get("ce-causationid") != "1234-1234-1234" {
		t.Errorf("got %d %v %s, want an answer", got.StatusCode, got.Header, text)
	}
	var args map[string]string
	if err := json.Unmarshal(inv.lastRequest().Args, &args); err != nil || len(args) != 1 || args["message"] != "Hello World!" {
		t.Errorf("got the arguments %v, %v", args, err)
	}
}
