package actions_test

import (
	"io/fs"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// TestShipped shows that each action that is in the program is the folder NAME with an
// action.yaml. Package catalog's tests read them.
func TestShipped(t *testing.T) {
	files, err := fs.Glob(actions.Shipped(), "*/action.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %q, %v, want the shipped actions", files, err)
	}
}
