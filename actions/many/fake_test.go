package many_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

// A fake is a model in four ways. The answer to {"n": 3} is {"twice": 6}; the fields say by which
// n a call fails.
type fake struct {
	bad    map[int]*actions.Error
	noMany bool   // there is no predict-many
	wrap   string // the member that the answer of a vectorised call is in
	lists  bool   // that answer is an object of lists
	short  bool   // that answer lacks the rows that are bad

	mu    sync.Mutex // guards what follows
	calls []string   // verb and the n of each call
}

type input struct {
	N *int `json:"n"`
}

func (f *fake) invoke(_ context.Context, req actions.Request) (actions.Response, error) {
	var in struct {
		N    json.RawMessage `json:"n"`
		Rows []input         `json:"rows"`
	}
	var numbers []int
	vectorised := true
	switch {
	case req.Verb == actions.PredictMany:
		var rows []input
		if err := json.Unmarshal(req.Args, &rows); err != nil {
			return actions.Response{}, err
		}
		for _, r := range rows {
			numbers = append(numbers, *r.N)
		}
		f.note(req.Verb, numbers)
		return f.each(numbers)
	case json.Unmarshal(req.Args, &in) != nil:
		return actions.Response{}, fmt.Errorf("no JSON: %s", req.Args)
	case in.Rows != nil:
		for _, r := range in.Rows {
			numbers = append(numbers, *r.N)
		}
	case bytes.HasPrefix(in.N, []byte{'['}):
		if err := json.Unmarshal(in.N, &numbers); err != nil {
			return actions.Response{}, err
		}
	default:
		var n int
		if err := json.Unmarshal(in.N, &n); err != nil {
			return actions.Response{}, err
		}
		numbers, vectorised = []int{n}, false
	}
	f.note(req.Verb, numbers)
	kept := numbers[:0:0]
	for _, n := range numbers {
		if err := f.bad[n]; err == nil {
			kept = append(kept, n)
		} else if !f.short || len(numbers) == 1 {
			return actions.Response{}, err
		}
	}
	if !vectorised {
		return jsonResponse(fmt.Appendf(nil, `{"twice":%d}`, 2*numbers[0])), nil
	}
	return f.all(kept), nil
}

func (f *fake) note(verb actions.Verb, numbers []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprint(verb, numbers))
}

// each answers predict-many.
func (f *fake) each(numbers []int) (actions.Response, error) {
	if f.noMany {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "no predict-many")
	}
	b := []byte{'['}
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		switch err := f.bad[n]; {
		case err == nil:
			b = fmt.Appendf(b, `{"value":{"twice":%d}}`, 2*n)
		case err.Code == actions.Unavailable:
			return actions.Response{}, err
		default:
			b = fmt.Appendf(b, `{"error":%q,"code":%q}`, err.Msg, err.Code)
		}
	}
	return jsonResponse(append(b, ']')), nil
}

// all answers a vectorised call.
func (f *fake) all(numbers []int) actions.Response {
	var rows []map[string]int
	var twice []int
	for _, n := range numbers {
		rows = append(rows, map[string]int{"twice": 2 * n})
		twice = append(twice, 2*n)
	}
	var answer any = rows
	if f.lists {
		answer = map[string]any{"twice": twice}
	}
	if f.wrap != "" {
		answer = map[string]any{"seconds": 1, f.wrap: map[string]any{"it": answer}}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return jsonResponse(b)
}

func jsonResponse(data []byte) actions.Response {
	return actions.Response{ContentType: "application/json", Data: data}
}
