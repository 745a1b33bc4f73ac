package onnx

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/onnx/onnxtest"
)

// counter is a model that takes as many steps as it is told, and answers with x.
func counter() onnxtest.Graph {
	v := func(name string, kind kind) onnxtest.Value {
		return onnxtest.Value{Name: name, Type: int(kind), Shape: []int64{}}
	}
	same := func(from, to string) onnxtest.Node {
		return onnxtest.Node{Op: "Identity", Inputs: []string{from}, Outputs: []string{to}}
	}
	body := onnxtest.Graph{
		Inputs:  []onnxtest.Value{v("step", int64s), v("going", bools), v("before", fp32)},
		Outputs: []onnxtest.Value{v("go", bools), v("after", fp32)},
		Nodes:   []onnxtest.Node{same("going", "go"), same("before", "after")},
	}
	return onnxtest.Graph{
		Inputs:  []onnxtest.Value{v("steps", int64s), v("x", fp32)},
		Outputs: []onnxtest.Value{v("y", fp32)},
		Nodes:   []onnxtest.Node{{Op: "Loop", Inputs: []string{"steps", "", "x"}, Outputs: []string{"y"}, Body: &body}},
	}
}

// ending is a context that ends with err when the inference is about to begin: it is
// then that it is asked to tell of its end.
type ending struct {
	context.Context //nolint:containedctx // it is one
	done            chan struct{}
	err             error
}

func (e ending) Done() <-chan struct{} { return e.done }

func (e ending) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

// AfterFunc is what context.AfterFunc calls.
func (e ending) AfterFunc(f func()) (stop func() bool) {
	close(e.done)
	go f()
	return func() bool { return false }
}

// TestContext stops inferences that would never end.
func TestContext(t *testing.T) {
	p, _ := start(t, tiny(t, counter(), ""))
	steps := func(n int64) actions.Request {
		return actions.Request{Args: json.RawMessage(fmt.Sprintf(`{"steps": %d, "x": 7}`, n))}
	}
	short := func() {
		t.Helper()
		r, err := p.Call(t.Context(), steps(3))
		if want := `{"y":{"datatype":"FP32","shape":[],"data":[7]}}`; err != nil || string(r.Data) != want {
			t.Errorf("got %s and %v, want %s", r.Data, err, want)
		}
	}
	short()

	for want, err := range map[actions.Code]error{actions.Canceled: context.Canceled, actions.Deadline: context.DeadlineExceeded} {
		ctx := ending{t.Context(), make(chan struct{}), err}
		if _, err := p.Call(ctx, steps(math.MaxInt64)); actions.CodeOf(err) != want {
			t.Errorf("got %v for a context that ends, want %s", err, want)
		}
		if _, err := p.Call(ctx, steps(3)); actions.CodeOf(err) != want {
			t.Errorf("got %v for one that has ended, want %s", err, want)
		}
		short()
	}
}
