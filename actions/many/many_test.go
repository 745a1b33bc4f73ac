package many_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/many"
)

// ways are the ways of a model, each with a fake that has it.
func ways() map[string]struct {
	model actions.Model
	fake  *fake
} {
	python := actions.Model{Name: "twice", Runtime: actions.Python}
	with := func(b actions.Batching) actions.Model {
		m := python
		m.Batching = b
		return m
	}
	return map[string]struct {
		model actions.Model
		fake  *fake
	}{
		"predict-many":      {model: python, fake: &fake{}},
		"no predict-many":   {model: python, fake: &fake{noMany: true}},
		"an executable":     {model: actions.Model{Name: "twice", Runtime: actions.Executable}, fake: &fake{}},
		"size 1":            {model: with(actions.Batching{Size: 1}), fake: &fake{}},
		"an argument":       {model: with(actions.Batching{Argument: "rows", Size: 7}), fake: &fake{}},
		"columns":           {model: with(actions.Batching{Columns: true}), fake: &fake{}},
		"lists":             {model: with(actions.Batching{Columns: true, Size: 100}), fake: &fake{lists: true}},
		"in a member":       {model: with(actions.Batching{Argument: "rows", Answer: "out.it"}), fake: &fake{wrap: "out"}},
		"lists in a member": {model: with(actions.Batching{Argument: "rows", Answer: "out.it"}), fake: &fake{wrap: "out", lists: true}},
		"answers missing":   {model: with(actions.Batching{Argument: "rows"}), fake: &fake{short: true}},
	}
}

func numbered(n int) []many.Row {
	rows := make([]many.Row, n)
	for i := range rows {
		rows[i].Args = fmt.Appendf(nil, `{"n":%d}`, i)
	}
	return rows
}

// show makes a text of a result.
func show(r many.Result) string {
	if e, ok := errors.AsType[*actions.Error](r.Err); ok {
		return fmt.Sprintf("%s: %s", e.Code, e.Msg)
	}
	return fmt.Sprintf("%s %s", r.Response.ContentType, r.Response.Data)
}

// TestPredict compares each way with a loop of single calls, over random faults.
func TestPredict(t *testing.T) {
	codes := []actions.Code{actions.Invalid, actions.Failed, actions.TooLarge, actions.NoAnswer, actions.Unsupported, actions.Unavailable}
	for name := range ways() {
		for seed := range uint64(40) {
			random := rand.New(rand.NewPCG(seed, 1))
			n := 1 + random.IntN(300)
			bad := map[int]*actions.Error{}
			for range []int{0, 1, 3, n}[seed%4] {
				i := random.IntN(n)
				bad[i] = &actions.Error{Code: codes[random.IntN(len(codes))], Msg: fmt.Sprint("not ", i), Status: 422, Err: actions.ErrDied}
				if bad[i].Code == actions.Unavailable {
					bad[i].Status = 0 // it ended the process
				}
			}
			way := ways()[name]
			f := way.fake
			f.bad = bad
			call := many.Call{Model: way.model, Invoke: f.invoke, Concurrency: int(seed % 5)}
			results := many.Predict(t.Context(), call, numbered(n))
			if len(results) != n {
				t.Fatalf("%s, seed %d: got %d results, want %d", name, seed, len(results), n)
			}
			for i, r := range results {
				want := fmt.Sprintf(`application/json {"twice":%d}`, 2*i)
				if e := bad[i]; e != nil {
					want = fmt.Sprintf("%s: not %d", e.Code, i)
				}
				if got := show(r); got != want {
					t.Errorf("%s, seed %d, row %d of %d: got %s, want %s", name, seed, i, n, got, want)
				}
			}
			if most := 2*n + int(math.Sqrt(float64(n))) + 2; len(f.calls) > most {
				t.Errorf("%s, seed %d: got %d calls for %d rows, want at most %d", name, seed, len(f.calls), n, most)
			}
		}
	}
}

// TestCallsAreDeterministic sees the same calls however many are under way at a time.
func TestCallsAreDeterministic(t *testing.T) {
	for name := range ways() {
		var before []string
		for _, concurrency := range []int{2, 2, 2, 2} {
			way := ways()[name]
			f := way.fake
			f.bad = map[int]*actions.Error{17: {Code: actions.Failed, Msg: "17"}}
			many.Predict(t.Context(), many.Call{Model: way.model, Invoke: f.invoke, Concurrency: concurrency}, numbered(500))
			slices.Sort(f.calls)
			if name == "no predict-many" {
				f.calls = slices.DeleteFunc(f.calls, func(call string) bool { return strings.HasPrefix(call, string(actions.PredictMany)) })
			}
			if before != nil && !slices.Equal(before, f.calls) {
				t.Errorf("%s: the calls differ: %s", name, cmp.Diff(before, f.calls))
			}
			before = f.calls
		}
	}
}

func TestOneBadRowIsFoundInFewCalls(t *testing.T) {
	f := fake{bad: map[int]*actions.Error{613: {Code: actions.Unavailable, Msg: "it died", Err: actions.ErrDied}}}
	model := actions.Model{Name: "twice", Runtime: actions.Python, Batching: actions.Batching{Argument: "rows"}}
	results := many.Predict(t.Context(), many.Call{Model: model, Invoke: f.invoke}, numbered(1000))
	deaths := 0
	for _, call := range f.calls {
		if slices.Contains(strings.FieldsFunc(call, func(c rune) bool { return strings.ContainsRune(" []", c) }), "613") {
			deaths++
		}
	}
	if deaths != 3 || len(f.calls) != 1+33+31 {
		t.Errorf("got %d deaths in %d calls, want 3 in %d", deaths, len(f.calls), 1+33+31)
	}
	failed := 0
	for _, r := range results {
		if r.Err != nil {
			failed++
		}
	}
	if failed != 1 || !errors.Is(results[613].Err, actions.ErrDied) {
		t.Errorf("got %d rows with an error and %v for the bad one", failed, results[613].Err)
	}
}

// TestLate shows that a row that hangs costs no other row its answer, and that rows which are slow together
// have the time that each has alone.
func TestLate(t *testing.T) {
	late := &actions.Error{Code: actions.Deadline, Msg: "the call took longer than it was allowed to"}
	for name, test := range map[string]struct {
		isLate func(rows []int) bool
		failed []int
		most   int // calls
	}{
		"one hangs":          {func(rows []int) bool { return slices.Contains(rows, 613) }, []int{613}, 1 + 33 + 31},
		"slow all together":  {func(rows []int) bool { return len(rows) > 40 }, nil, 1 + 33},
		"each alone is fine": {func(rows []int) bool { return len(rows) > 1 }, nil, 3 + 1000},
		"most of them hang":  {func(rows []int) bool { return rows[0] > 3 || len(rows) > 1 }, nil, 20},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			invoke := func(_ context.Context, req actions.Request) (actions.Response, error) {
				var in struct{ Rows []struct{ N int } }
				if err := json.Unmarshal(req.Args, &in); err != nil {
					return actions.Response{}, err
				}
				calls++
				rows := make([]int, len(in.Rows))
				for i, r := range in.Rows {
					rows[i] = r.N
				}
				if test.isLate(rows) {
					return actions.Response{}, late
				}
				data, err := json.Marshal(rows)
				return jsonResponse(data), err
			}
			model := actions.Model{Name: "slow", Runtime: actions.Python, Batching: actions.Batching{Argument: "rows"}}
			results := many.Predict(t.Context(), many.Call{Model: model, Invoke: invoke}, numbered(1000))
			var failed []int
			for i, r := range results {
				switch {
				case r.Err != nil && errors.Is(r.Err, late):
					failed = append(failed, i)
				case r.Err != nil || string(r.Response.Data) != strconv.Itoa(i):
					t.Fatalf("row %d: got %s, %v", i, r.Response.Data, r.Err)
				}
			}
			if calls > test.most || name != "most of them hang" && !slices.Equal(failed, test.failed) {
				t.Errorf("got %d calls, want at most %d; %d rows failed: %.100v, want %v", calls, test.most, len(failed), failed, test.failed)
			}
		})
	}
}

func TestErrorsOfNobody(t *testing.T) {
	for _, test := range []struct {
		err   error
		calls int
	}{
		{&actions.Error{Code: actions.Busy, Msg: "busy"}, 1},
		{&actions.Error{Code: actions.Deadline, Msg: "gateway", Status: 504}, 1},
		{&actions.Error{Code: actions.Canceled, Msg: "gone"}, 1},
		{&actions.Error{Code: actions.NotFound, Msg: "no model"}, 1},
		{&actions.Error{Code: actions.Unavailable, Msg: "asked for a pause", Status: 503}, 1},
		{&actions.Error{Code: actions.Unavailable, Msg: "loading", Err: actions.ErrDiedLoading}, 1},
		// Somebody may have ended the process, which calls for another try.
		{&actions.Error{Code: actions.Unavailable, Msg: "shutting down"}, 6},
		// One of the rows may hang.
		{&actions.Error{Code: actions.Deadline, Msg: "late"}, 6},
	} {
		calls := 0
		invoke := func(context.Context, actions.Request) (actions.Response, error) {
			calls++
			return actions.Response{}, test.err
		}
		model := actions.Model{Name: "m", Runtime: actions.Python, Batching: actions.Batching{Columns: true}}
		for i, r := range many.Predict(t.Context(), many.Call{Model: model, Invoke: invoke}, numbered(100)) {
			if !errors.Is(r.Err, test.err) {
				t.Errorf("row %d: got %v, want %v", i, r.Err, test.err)
			}
		}
		if calls != test.calls {
			t.Errorf("%v: got %d calls, want %d", test.err, calls, test.calls)
		}
	}
}

func TestAnErrorThatIsNone(t *testing.T) {
	broken := errors.New("broken")
	invoke := func(context.Context, actions.Request) (actions.Response, error) { return actions.Response{}, broken }
	r := many.Predict(t.Context(), many.Call{Model: actions.Model{Runtime: actions.HTTP}, Invoke: invoke}, numbered(1))
	if got := actions.CodeOf(r[0].Err); got != actions.Internal || !errors.Is(r[0].Err, broken) {
		t.Errorf("got %v of code %s", r[0].Err, got)
	}
}

func TestLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	invoke := func(context.Context, actions.Request) (actions.Response, error) {
		calls++
		cancel()
		return jsonResponse([]byte(`1`)), nil
	}
	results := many.Predict(ctx, many.Call{Model: actions.Model{Runtime: actions.HTTP}, Invoke: invoke}, numbered(3))
	if calls != 1 || results[0].Err != nil || actions.CodeOf(results[1].Err) != actions.Canceled || actions.CodeOf(results[2].Err) != actions.Canceled {
		t.Errorf("got %d calls and %v, want 1 and two that are canceled", calls, results)
	}
	expired, cancel2 := context.WithTimeout(t.Context(), 0)
	defer cancel2()
	results = many.Predict(expired, many.Call{Model: actions.Model{Runtime: actions.HTTP}, Invoke: invoke}, numbered(1))
	if got := actions.CodeOf(results[0].Err); got != actions.Deadline {
		t.Errorf("got %s, want deadline", got)
	}
}

func TestPanic(t *testing.T) {
	defer func() {
		if v := recover(); v != "a fault" {
			t.Errorf("got %v, want the panic of Invoke", v)
		}
	}()
	invoke := func(context.Context, actions.Request) (actions.Response, error) { panic("a fault") }
	many.Predict(t.Context(), many.Call{Model: actions.Model{Runtime: actions.HTTP}, Invoke: invoke, Concurrency: 4}, numbered(8))
	t.Error("it came back")
}

func TestRows(t *testing.T) {
	type call struct {
		Verb       actions.Verb
		Args       string
		Files      int
		Accept, ID string
	}
	list := actions.Batching{Argument: "a \"b\"", Size: 3}
	columns := actions.Batching{Columns: true, Size: 10}
	for _, test := range []struct {
		name  string
		by    actions.Batching
		rows  []many.Row
		calls []call
		wrong []int
	}{
		{
			"a list", list,
			[]many.Row{{}, {Args: []byte("{\n}")}, {Args: []byte(`{"x":"}"}`)}, {Args: []byte(`{"y":1}`)}},
			[]call{
				{actions.Predict, "{\"a \\\"b\\\"\":[{},{\n},{\"x\":\"}\"}]}", 0, "", "id"},
				{actions.Predict, `{"a \"b\"":[{"y":1}]}`, 0, "", "id"},
			},
			nil,
		},
		{
			"columns", columns,
			[]many.Row{{}, {Args: []byte(`{"a":1,"b\n":[2],"a":3}`)}, {Args: []byte(`{ "c" : null , "a" : {} }`)}, {Args: []byte(`{}`)}},
			[]call{{actions.Predict, `{"a":[null,3,{},null],"b\n":[null,[2],null,null],"c":[null,null,null,null]}`, 0, "", "id"}},
			nil,
		},
		{
			"what is no row", list,
			[]many.Row{{Args: []byte(`{},{}`)}, {Args: []byte(`[]`)}, {Args: []byte(`{"x":1}`)}, {Args: []byte(`{"x":`)}, {Args: []byte("{\"\xff\":1}")}},
			[]call{{actions.Predict, `{"a \"b\"":[{"x":1}]}`, 0, "", "id"}},
			[]int{0, 1, 3, 4},
		},
		{
			"a row with a file among others",
			actions.Batching{},
			[]many.Row{{Args: []byte(`{"x":1}`)}, {Args: []byte(`{"x":2}`), Files: []actions.File{{Name: "f"}}}, {Args: []byte(`[3]`)}},
			[]call{
				{actions.PredictMany, `[{"x":1},[3]]`, 0, "image/png", "id"},
				{actions.Predict, `{"x":2}`, 1, "image/png", "id"},
			},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls []call
			invoke := func(_ context.Context, req actions.Request) (actions.Response, error) {
				calls = append(calls, call{req.Verb, string(req.Args), len(req.Files), req.Accept, req.ID})
				return actions.Response{}, actions.Errorf(actions.Busy, "busy")
			}
			c := many.Call{
				Model:    actions.Model{Name: "m", Runtime: actions.Python, Batching: actions.Batching{Argument: "of the model"}},
				Batching: test.by, Invoke: invoke, ID: "id", Accept: "image/png",
			}
			if test.by == (actions.Batching{}) {
				c.Model.Batching = test.by
			}
			results := many.Predict(t.Context(), c, test.rows)
			if diff := cmp.Diff(test.calls, calls); diff != "" {
				t.Errorf("the calls (-want +got):\n%s", diff)
			}
			for i, r := range results {
				want := actions.Busy
				if slices.Contains(test.wrong, i) {
					want = actions.Invalid
				}
				if got := actions.CodeOf(r.Err); got != want {
					t.Errorf("row %d: got %v, want the code %s", i, r.Err, want)
				}
			}
		})
	}
}

// TestBytes sees calls bounded by the size of their arguments.
func TestBytes(t *testing.T) {
	long := json.RawMessage(`{"text":"` + strings.Repeat("x", 3<<20) + `"}`)
	var sizes []int
	invoke := func(_ context.Context, req actions.Request) (actions.Response, error) {
		sizes = append(sizes, len(req.Args)>>20)
		return actions.Response{}, actions.Errorf(actions.Busy, "busy")
	}
	rows := []many.Row{{Args: long}, {Args: long}, {Args: long}, {}, {Args: long}}
	many.Predict(t.Context(), many.Call{Model: actions.Model{Runtime: actions.Python}, Invoke: invoke}, rows)
	if want := []int{6, 6}; !slices.Equal(sizes, want) {
		t.Errorf("got calls of %d MiB, want %d", sizes, want)
	}
}

// TestNamedArguments binds the rows of a model that has names for its arguments.
func TestNamedArguments(t *testing.T) {
	var args []string
	invoke := func(_ context.Context, req actions.Request) (actions.Response, error) {
		args = append(args, fmt.Sprintf("%s %s %d", req.Verb, req.Args, len(req.Files)))
		return actions.Response{}, actions.Errorf(actions.Unsupported, "no")
	}
	model := actions.Model{Name: "m", Runtime: actions.ONNX, Arguments: []actions.Argument{
		{Name: "x", Type: actions.TypeAny, Required: true},
		{Name: "top", Type: actions.TypeInteger, Default: json.RawMessage("3")},
	}}
	rows := []many.Row{{Args: []byte(`{"x":1}`)}, {Args: []byte(`{"y":1}`)}, {}, {Args: []byte(`[]`)}, {Args: []byte(`{"x":2,"top":4}`)}}
	results := many.Predict(t.Context(), many.Call{Model: model, Invoke: invoke}, rows)
	want := []string{`predict-many [{"x":1,"top":3},{"x":2,"top":4}] 0`, `predict {"x":1,"top":3} 0`, `predict {"x":2,"top":4} 0`}
	if diff := cmp.Diff(want, args); diff != "" {
		t.Errorf("the calls (-want +got):\n%s", diff)
	}
	for i, want := range []actions.Code{actions.Unsupported, actions.Invalid, actions.Invalid, actions.Invalid, actions.Unsupported} {
		if got := actions.CodeOf(results[i].Err); got != want {
			t.Errorf("row %d: got %v, want the code %s", i, results[i].Err, want)
		}
	}
	args = nil
	model.Batching = actions.Batching{Columns: true}
	model.Arguments[1].Type = actions.TypeArray
	many.Predict(t.Context(), many.Call{Model: model, Invoke: invoke}, rows[4:])
	if want := []string{`predict {"x":[2],"top":[4]} 0`}; !slices.Equal(args, want) {
		t.Errorf("columns: got %q, want %q", args, want)
	}
}
