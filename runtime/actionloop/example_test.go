package actionloop_test

import (
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/actionloop"
)

// The child program for such a model is worker.Serve(ctx, actionloop.New()).
func ExampleCheck() {
	m := actions.Model{Name: "hello", Runtime: actions.Executable, Dir: "/actions/hello"}
	m.Spec = []byte(`{"path": "exec", "ack": true}`)
	fmt.Println(actionloop.Check(m))
	m.Spec = []byte(`{"path": "../exec"}`)
	fmt.Println(actionloop.Check(m))
	// Output:
	// <nil>
	// executable: path: "../exec" is not in the action's folder
}
