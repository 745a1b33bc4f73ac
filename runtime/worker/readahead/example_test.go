package readahead_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/deepfn/deepfn/runtime/worker/readahead"
)

// Weights are read ahead while the program that loads them starts.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.WriteFile(filepath.Join(dir, "weights.pt"), make([]byte, 2<<20), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	weights := readahead.Start(dir)
	defer weights.Close()
	// Here the program starts.
	fmt.Printf("%d MiB\n", weights.Bytes()>>20)
	// Output: 2 MiB
}
