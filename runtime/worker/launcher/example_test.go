package launcher_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// A plain function in a file is a model.
func ExampleLauncher_Start() {
	dir, err := os.MkdirTemp("", "launcher")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source := "def predict(word: str):\n    return word[::-1]\n"
	if err := os.WriteFile(filepath.Join(dir, "reverse.py"), []byte(source), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	l, err := launcher.New(launcher.Config{Dir: filepath.Join(dir, "cache")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = l.Close() }()
	ctx := context.Background()
	w, err := l.Start(ctx, launcher.Run{
		Model:  actions.Model{Name: "reverse", Dir: dir},
		Spec:   launcher.Spec{Path: "reverse.py"},
		Python: os.Getenv("DEEPFN_TEST_PYTHON_CURRENT"), // run make test
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = w.Close() }()
	resp, err := w.Call(ctx, actions.Request{Args: []byte(`{"word": "warm"}`)})
	fmt.Println(string(resp.Data), err)
	// Output: "mraw" <nil>
}
