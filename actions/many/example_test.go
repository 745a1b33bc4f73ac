package many_test

import (
	"context"
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/many"
)

func ExamplePredict() {
	model := actions.Model{Name: "sum", Runtime: actions.Python, Batching: actions.Batching{Columns: true, Answer: "sums"}}
	call := many.Call{Model: model, Invoke: func(_ context.Context, req actions.Request) (actions.Response, error) {
		fmt.Printf("one call: %s\n", req.Args)
		return actions.Response{ContentType: "application/json", Data: []byte(`{"sums":[3,7]}`)}, nil
	}}
	rows := []many.Row{{Args: []byte(`{"a":1,"b":2}`)}, {Args: []byte(`{"a":3,"b":4}`)}}
	for _, r := range many.Predict(context.Background(), call, rows) {
		fmt.Printf("%s\n", r.Response.Data)
	}
	// Output:
	// one call: {"a":[1,3],"b":[2,4]}
	// 3
	// 7
}
