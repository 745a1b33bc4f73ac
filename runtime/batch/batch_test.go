package batch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

func wantError(t *testing.T, err error, code actions.Code, says string) {
	t.Helper()
	if actions.CodeOf(err) != code || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("got %q %v, want %q that says %q", actions.CodeOf(err), err, code, says)
	}
}

func TestRun(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(23) + "{}\nno JSON\n" + `{"id":7,"n":"x"}` + "\n"})
	var last actions.Progress
	var reports int
	engine := newEngine(t, &client{memory: m}, newModel())
	told, err := engine.Run(t.Context(), "job", someBatch(), batch.Watcher{Progress: func(p actions.Progress) { last, reports = p, reports+1 }})
	if err != nil {
		t.Fatal(err)
	}
	got := m.below(output)
	names := slices.Sorted(maps.Keys(got))
	want := []string{"errors-000002.ndjson", "manifest.json", "part-000000.ndjson", "part-000001.ndjson", "part-000002.ndjson"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(got["part-000000.ndjson"]+got["part-000001.ndjson"]+got["part-000002.ndjson"]), "\n")
	if len(lines) != 23 {
		t.Fatalf("got %d answers, want 23", len(lines))
	}
	for i, line := range lines {
		if want := fmt.Sprintf(`{"key":"r%d","prediction":{"twice":%d}}`, i, 2*i); line != want {
			t.Errorf("line %d: got %s, want %s", i, line, want)
		}
	}
	if n := strings.Count(got["errors-000002.ndjson"], "\n"); n != 3 || !strings.Contains(got["errors-000002.ndjson"], `"row":24`) {
		t.Errorf("got the errors %s, want those of rows 23 to 25", got["errors-000002.ndjson"])
	}
	if string(told) != got["manifest.json"] {
		t.Errorf("got %s, want the manifest %s", told, got["manifest.json"])
	}
	var manifest struct{ Rows, Predicted, Failed, Chunks int }
	if err := json.Unmarshal(told, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Rows != 26 || manifest.Predicted != 23 || manifest.Failed != 3 || manifest.Chunks != 3 {
		t.Errorf("got %+v", manifest)
	}
	if last.Fraction != 1 || last.Rows != 26 || last.Failed != 3 || last.Chunks != 3 || last.Redone != 0 || reports < 4 {
		t.Errorf("got %d reports, at last %+v", reports, last)
	}
}

// TestAgain shows that a batch that is complete is not done again, and that nothing else is
// written over its output.
func TestAgain(t *testing.T) {
	objects := map[string]string{input: numbers(30), "mem://in/other.ndjson": numbers(3)}
	m, model := newMemory(objects), newModel()
	engine := newEngine(t, &client{memory: m}, model)
	first, err := engine.Run(t.Context(), "a", someBatch(), batch.Watcher{})
	if err != nil {
		t.Fatal(err)
	}
	again := someBatch()
	again.MaxErrors, again.Concurrency = "3", 7
	second, err := engine.Run(t.Context(), "b", again, batch.Watcher{})
	if err != nil || string(first) != strings.TrimSpace(string(second))+"\n" && !sameJSON(first, second) || model.calls() != 30 {
		t.Errorf("got %s, %v after %d calls, want the same manifest after 30", second, err, model.calls())
	}
	for name, change := range map[string]func(*actions.Batch){
		"input":    func(b *actions.Batch) { b.Input.URL = "mem://in/other.ndjson" },
		"settings": func(b *actions.Batch) { b.Arguments = map[string]json.RawMessage{"k": json.RawMessage("1")} },
		"chunks":   func(b *actions.Batch) { b.ChunkRows = 11 },
	} {
		b := someBatch()
		change(&b)
		_, err := engine.Run(t.Context(), "c", b, batch.Watcher{})
		wantError(t, err, actions.Conflict, "complete batch")
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if diff := cmp.Diff(undisturbed(t, objects, someBatch()), m.below(output)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && cmp.Equal(x, y)
}

// TestKilledAtEveryStep kills a batch before and after each request to the store, once and
// again, and shows that nothing can be told from the output, and that a kill costs one chunk.
func TestKilledAtEveryStep(t *testing.T) {
	objects := map[string]string{input: numbers(44) + `{"id":"bad"}` + "\n"}
	for _, format := range []string{actions.NDJSON, actions.CSV, actions.Parquet, actions.Tar, actions.Zip, actions.Objects} {
		b := someBatch()
		b.Output.Format = format
		want := undisturbed(t, objects, b)
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%t", format, after), func(t *testing.T) {
				for steps := 1; ; steps++ {
					m, model := newMemory(objects), newModel()
					kills, finished := runKilled(t, m, model, b, steps, after)
					if diff := cmp.Diff(want, m.below(output)); diff != "" {
						t.Fatalf("killed every %d requests: output (-want +got):\n%s", steps, diff)
					}
					if calls := model.calls(); calls > 45+kills*10 {
						t.Errorf("killed %d times, every %d requests: %d calls, want at most %d", kills, steps, calls, 45+kills*10)
					}
					if finished && kills == 0 {
						return
					}
				}
			})
		}
	}
}

// runKilled runs a batch, first in a process that is killed after so many requests, then in
// one that is killed after more, until one lives long enough.
func runKilled(t *testing.T, m *memory, model *model, b actions.Batch, steps int, after bool) (kills int, finished bool) {
	t.Helper()
	for left := steps; ; left += 1 + steps/2 {
		l := &life{left: left}
		ctx, kill := context.WithCancel(t.Context())
		c := &client{memory: m}
		dies := func(string, string) error {
			if l.take() {
				return nil
			}
			kill()
			return errKilled
		}
		if after {
			c.lost = dies
		} else {
			c.fault = dies
		}
		_, err := newEngine(t, c, model).Run(ctx, "job", b, batch.Watcher{})
		killed := ctx.Err() != nil
		kill()
		if !killed {
			if err != nil {
				t.Fatalf("after %d kills: %v", kills, err)
			}
			return kills, true
		}
		kills++
		if kills > 1000 {
			t.Fatal("it never ends")
		}
	}
}

// TestStoreAway shows that a batch waits for a store that is away, whatever it was asked, and
// gives up when it is away for too long.
func TestStoreAway(t *testing.T) {
	objects := map[string]string{input: numbers(30)}
	want := undisturbed(t, objects, someBatch())
	for name, test := range map[string]struct {
		away time.Duration
		code actions.Code
	}{
		"for seconds":  {away: 20 * time.Second},
		"for too long": {away: 2 * time.Minute, code: actions.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, model := newMemory(objects), newModel()
				begin := time.Now()
				var puts atomic.Int32
				c := &client{memory: m}
				c.fault = func(op, url string) error {
					if op == "put" {
						puts.Add(1)
					}
					if puts.Load() > 5 && time.Since(begin) < test.away {
						return away("%s is away", url)
					}
					return nil
				}
				engine := newEngine(t, c, model)
				_, err := engine.Run(t.Context(), "job", someBatch(), batch.Watcher{})
				if actions.CodeOf(err) != test.code {
					t.Fatalf("got %v, want %q", err, test.code)
				}
				if err != nil {
					if !strings.Contains(err.Error(), "start the batch again") {
						t.Errorf("got %v", err)
					}
					time.Sleep(test.away)
					if _, err := engine.Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(want, m.below(output)); diff != "" {
					t.Errorf("output (-want +got):\n%s", diff)
				}
				if calls := model.calls(); test.code == "" && calls != 30 {
					t.Errorf("got %d calls, want 30", calls)
				}
			})
		})
	}
}

// TestNamesOfObjects shows that files whose answers would have one name all have an answer.
func TestNamesOfObjects(t *testing.T) {
	objects := map[string]string{}
	for _, name := range []string{"a", "a.json", "b.json", "c/a", "c/a.json", "d"} {
		objects["mem://in/files/"+name] = strings.Repeat("x", len(name))
	}
	b := someBatch()
	b.Input, b.Output.Format, b.ChunkRows, b.Map = actions.BatchInput{URL: "mem://in/files/", Format: actions.Objects}, actions.Objects, 1, nil
	got := undisturbed(t, objects, b)
	want := map[string]string{
		"a.json": `{"size":1}`, "a-1.json": `{"size":6}`, "b.json": `{"size":6}`, "c/a.json": `{"size":3}`, "c/a-4.json": `{"size":8}`, "d.json": `{"size":1}`,
	}
	delete(got, "manifest.json")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

// TestLostAnswers loses the answer to each request once that has changed something, so that the
// store may say of the next one that there is an object already.
func TestLostAnswers(t *testing.T) {
	objects := map[string]string{input: numbers(30)}
	for _, quick := range []bool{false, true} { // the store's client has asked again by itself
		synctest.Test(t, func(t *testing.T) {
			m, model := newMemory(objects), newModel()
			var mu sync.Mutex
			seen := map[string]bool{}
			c := &client{memory: m}
			c.lost = func(op, url string) error {
				mu.Lock()
				defer mu.Unlock()
				if seen[op+url] {
					return nil
				}
				seen[op+url] = true
				if quick && op == "put" && (strings.Contains(url, "job.json") || strings.Contains(url, "chunks/")) {
					return actions.Errorf(actions.Conflict, "there is a %s", url)
				}
				return away("the answer got lost")
			}
			if _, err := newEngine(t, c, model).Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(undisturbed(t, objects, someBatch()), m.below(output)); diff != "" || model.calls() != 30 {
				t.Errorf("%d calls, output (-want +got):\n%s", model.calls(), diff)
			}
		})
	}
}

// TestStoreWithoutKeys shows that an error of the store that only somebody can mend is told at once.
func TestStoreWithoutKeys(t *testing.T) {
	for _, op := range []string{"open", "list", "put"} {
		synctest.Test(t, func(t *testing.T) {
			c := &client{memory: newMemory(map[string]string{input: numbers(3)})}
			c.fault = func(asked, url string) error {
				if asked == op {
					return actions.Errorf(actions.Unavailable, "%s cannot be reached: there are no keys", url)
				}
				return nil
			}
			began := time.Now()
			_, err := newEngine(t, c, newModel()).Run(t.Context(), "job", someBatch(), batch.Watcher{})
			wantError(t, err, actions.Unavailable, "no keys")
			if took := time.Since(began); took > 0 {
				t.Errorf("%s: it took %s", op, took)
			}
		})
	}
}

func TestTooManyErrors(t *testing.T) {
	rows := numbers(25) + strings.Repeat(`{"id":"bad"}`+"\n", 20) + numbers(20)
	for max, test := range map[string]struct {
		chunks int // that are done when it stops
		stops  bool
	}{"": {7, false}, "20": {7, false}, "19": {5, true}, "0": {3, true}, "40%": {7, false}, "10%": {7, true}, "100%": {7, false}} {
		t.Run(max, func(t *testing.T) {
			m, model := newMemory(map[string]string{input: rows}), newModel()
			engine := newEngine(t, &client{memory: m}, model)
			b := someBatch()
			b.MaxErrors = max
			var last actions.Progress
			_, err := engine.Run(t.Context(), "job", b, batch.Watcher{Progress: func(p actions.Progress) { last = p }})
			if last.Chunks != test.chunks {
				t.Errorf("got %d chunks, want %d", last.Chunks, test.chunks)
			}
			if !test.stops {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, actions.Failed, "max_errors")
			if _, there := m.below(output)["errors-000002.ndjson"]; !there {
				t.Error("the errors that are spoken of are not there")
			}
			b.MaxErrors = ""
			if _, err := engine.Run(t.Context(), "job", b, batch.Watcher{}); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(undisturbed(t, map[string]string{input: rows}, b), m.below(output)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if calls := model.calls(); calls != 65 {
				t.Errorf("got %d calls, want 65: nothing is done again", calls)
			}
		})
	}
}

// TestRefused shows what is refused before anything is written.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*actions.Batch)
		code   actions.Code
		says   string
	}{
		"no model":        {func(b *actions.Batch) { b.Model = "" }, actions.Invalid, "needs a model"},
		"unknown model":   {func(b *actions.Batch) { b.Model = "none" }, actions.NotFound, "no model"},
		"no input":        {func(b *actions.Batch) { b.Input.URL = "" }, actions.Invalid, "needs an input"},
		"absent input":    {func(b *actions.Batch) { b.Input.URL = "mem://in/none.csv" }, actions.NotFound, "none.csv"},
		"absent prefix":   {func(b *actions.Batch) { b.Input.URL = "mem://in/none/" }, actions.NotFound, "none/"},
		"no output":       {func(b *actions.Batch) { b.Output.URL = "mem://out" }, actions.Invalid, "ends in a slash"},
		"output in input": {func(b *actions.Batch) { b.Input.URL, b.Output.URL = "mem://in/", "mem://in/out/" }, actions.Invalid, "below the input"},
		"format":          {func(b *actions.Batch) { b.Input.Format = "xls" }, actions.Invalid, "ndjson, csv"},
		"errors":          {func(b *actions.Batch) { b.MaxErrors = "many" }, actions.Invalid, "max_errors"},
		"share":           {func(b *actions.Batch) { b.MaxErrors = "101%" }, actions.Invalid, "0% to 100%"},
		"chunk":           {func(b *actions.Batch) { b.ChunkRows = -1 }, actions.Invalid, "chunk_rows"},
		"pattern":         {func(b *actions.Batch) { b.Input.Match = "[" }, actions.Invalid, "pattern"},
		"through":         {func(b *actions.Batch) { b.Through = "https://broker" }, actions.Unsupported, "through"},
		"both":            {func(b *actions.Batch) { b.Batching = actions.Batching{Argument: "rows", Columns: true} }, actions.Invalid, "not both"},
		"scheme":          {func(b *actions.Batch) { b.Input.URL = "rows.csv" }, actions.Invalid, "file://"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(map[string]string{input: numbers(3)})
			engine := newEngine(t, &client{memory: m}, newModel())
			b := someBatch()
			test.change(&b)
			_, err := engine.Run(t.Context(), "job", b, batch.Watcher{})
			wantError(t, err, test.code, test.says)
			wantError(t, engine.Check(t.Context(), b), test.code, test.says)
			if left := m.below(output); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestOutputInUse(t *testing.T) {
	m := newMemory(map[string]string{input: numbers(3), output + "mine.txt": "x"})
	_, err := newEngine(t, &client{memory: m}, newModel()).Run(t.Context(), "job", someBatch(), batch.Watcher{})
	wantError(t, err, actions.Conflict, "choose another output")

	m, model := newMemory(map[string]string{input: numbers(3)}), newModel()
	engine := newEngine(t, &client{memory: m}, model)
	var inner error
	model.during = func(string) { _, inner = engine.Run(t.Context(), "second", someBatch(), batch.Watcher{}) }
	if _, err := engine.Run(t.Context(), "first", someBatch(), batch.Watcher{}); err != nil {
		t.Error(err)
	}
	wantError(t, inner, actions.Conflict, "a batch of this server")
}

// TestInputChanged shows that a batch does not go on with another input.
func TestInputChanged(t *testing.T) {
	m, model := newMemory(map[string]string{input: numbers(30)}), newModel()
	ctx, cancel := context.WithCancel(t.Context())
	model.during = func(args string) {
		if args == `{"n":15}` {
			cancel()
		}
	}
	engine := newEngine(t, &client{memory: m}, model)
	_, err := engine.Run(ctx, "job", someBatch(), batch.Watcher{})
	wantError(t, err, actions.Canceled, "stopped")
	model.during = nil
	m.objects[input] = []byte(numbers(31))
	_, err = engine.Run(t.Context(), "job", someBatch(), batch.Watcher{})
	wantError(t, err, actions.Conflict, "has changed")
	m.objects[input] = []byte(numbers(30))
	if _, err = engine.Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
		t.Error(err)
	}
}

// TestPartRemoved shows that a part that somebody has removed is made again.
func TestPartRemoved(t *testing.T) {
	objects := map[string]string{input: numbers(40)}
	m, model := newMemory(objects), newModel()
	ctx, cancel := context.WithCancel(t.Context())
	model.during = func(args string) {
		if args == `{"n":35}` {
			cancel()
		}
	}
	engine := newEngine(t, &client{memory: m}, model)
	_, err := engine.Run(ctx, "job", someBatch(), batch.Watcher{})
	wantError(t, err, actions.Canceled, "stopped")
	model.during = nil
	for name := range m.below(output) {
		if strings.Contains(name, "part-000001") || strings.Contains(name, "staged/000001") {
			delete(m.objects, output+name)
		}
	}
	if _, err = engine.Run(t.Context(), "job", someBatch(), batch.Watcher{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(undisturbed(t, objects, someBatch()), m.below(output)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestModelAway shows that rows are asked again while the model may come back, that a batch
// stops when it answers nothing, and that a row that ends its process ends nothing else.
func TestModelAway(t *testing.T) {
	for name, test := range map[string]struct {
		fault  func(args string, asked int) error
		code   actions.Code
		failed int64
	}{
		"for a while": {fault: func(_ string, asked int) error {
			if asked < 4 {
				return actions.Errorf(actions.Busy, "full")
			}
			return nil
		}},
		"for longer than the tries of a row": {fault: func(_ string, asked int) error {
			if asked < 10 {
				return actions.Errorf(actions.Unavailable, "it does not start yet")
			}
			return nil
		}},
		"for good": {fault: func(string, int) error { return actions.Errorf(actions.Unavailable, "it does not start") }, code: actions.Unavailable},
		"says so of each row": {fault: func(string, int) error {
			return &actions.Error{Code: actions.Unavailable, Status: 503, Msg: "not this row"}
		}, code: actions.Failed, failed: 10},
		"one row": {fault: func(args string, _ int) error {
			if args == `{"n":4}` {
				return actions.Errorf(actions.Unavailable, "it ended: %w", actions.ErrDied)
			}
			return nil
		}, failed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, model := newMemory(map[string]string{input: numbers(10)}), newModel()
				model.fault = func(args string) error {
					model.mu.Lock()
					defer model.mu.Unlock()
					return test.fault(args, model.asked[args])
				}
				var last actions.Progress
				_, err := newEngine(t, &client{memory: m}, model).Run(t.Context(), "job", someBatch(),
					batch.Watcher{Progress: func(p actions.Progress) { last = p }})
				if actions.CodeOf(err) != test.code || last.Failed != test.failed {
					t.Errorf("got %v and %d failed rows, want %q and %d", err, last.Failed, test.code, test.failed)
				}
				if test.failed == 1 && model.asked[`{"n":4}`] > 2 {
					t.Errorf("the row that ends the process was asked %d times", model.asked[`{"n":4}`])
				}
				if test.code == actions.Unavailable && len(m.below(output+"part")) > 0 {
					t.Error("there is a part")
				}
			})
		})
	}
}
