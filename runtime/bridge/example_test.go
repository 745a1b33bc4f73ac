package bridge_test

import (
	"fmt"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/bridge"
)

// The child program for such a model is worker.Serve(ctx, bridge.New()).
func ExampleCheck() {
	m := actions.Model{Name: "cats", Runtime: actions.HTTP}
	m.Spec = []byte(`{"command": ["deepaas-run", "--listen-port", "{port}"]}`)
	fmt.Println(bridge.Check(m))
	m.Spec = []byte(`{"command": ["deepaas-run"], "port": 0}`)
	fmt.Println(bridge.Check(m))
	// Output:
	// <nil>
	// http: port: a free port can only be chosen if {port} stands in command or env
}
