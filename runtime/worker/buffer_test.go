package worker_test

import (
	"bytes"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// An answer lies in the caller's buffer if it fits there, else in memory of its own, and
// never behind the buffer's capacity.
func TestBuffer(t *testing.T) {
	w := start(t, config())
	want := []byte(`[1,2,3]`)
	for _, tt := range []struct {
		name   string
		room   int
		inside bool
	}{
		{"none", 0, false},
		{"too small", len(want) - 1, false},
		{"of its size", len(want), true},
		{"larger", 100, true},
	} {
		memory := bytes.Repeat([]byte{'.'}, 200)
		resp, err := w.Call(t.Context(), actions.Request{Args: want, Buffer: memory[: 50 : tt.room+50][50:]})
		if err != nil || !bytes.Equal(resp.Data, want) {
			t.Fatalf("%s: got %s, %v", tt.name, resp.Data, err)
		}
		if inside := &resp.Data[0] == &memory[50]; inside != tt.inside {
			t.Errorf("%s: the answer lies in the buffer: %v, want %v", tt.name, inside, tt.inside)
		}
		if bytes.Count(memory[:50], []byte{'.'}) != 50 || bytes.Count(memory[50+tt.room:], []byte{'.'}) != 150-tt.room {
			t.Errorf("%s: memory beside the buffer was written: %s", tt.name, memory)
		}
	}
}
