package readahead

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
)

// A fakeKernel is a page cache that a test fills.
type fakeKernel struct {
	mu     sync.Mutex // guards the rest
	shares map[string]float64
	asked  map[string]int64 // bytes, by the name of the file
	broken error
	turn   chan struct{} // each advice takes one, unless nil
	memory int64
}

func (k *fakeKernel) kernel() kernel {
	return kernel{
		cached: func(f *os.File, size int64) int64 { return int64(float64(size) * k.shares[filepath.Base(f.Name())]) },
		advise: func(f *os.File, at, size int64) error {
			if k.turn != nil {
				<-k.turn
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			if name := filepath.Base(f.Name()); k.broken == nil && k.asked[name] == at {
				k.asked[name] += size
			}
			return k.broken
		},
		available: func() int64 { return k.memory },
	}
}

// write makes a file of some size in a folder and returns its path.
func write(tb testing.TB, dir, name string, size int) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestOrigin(t *testing.T) {
	tests := []struct {
		name       string
		one, other float64 // shares of two files, 3 and 1 MiB
		want       actions.Tier
	}{
		{"nothing is there", 0, 0, actions.TierDisk},
		{"all is there", 1, 1, actions.TierCache},
		{"the small one is there", 0, 1, actions.TierDisk},
		{"most is there", 1, 0.7, actions.TierCache},
		{"too little is there", 1, 0.5, actions.TierDisk},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			one, other := write(t, dir, "one", 3<<20), write(t, dir, "other", 1<<20)
			k := &fakeKernel{shares: map[string]float64{"one": tt.one, "other": tt.other}, asked: map[string]int64{}, memory: 1 << 30}
			r := start(k.kernel(), []string{one, other})
			if got := r.Origin(); got != tt.want {
				t.Errorf("Origin: got %v (%.3f), want %v", got, r.Cached(), tt.want)
			}
			<-r.Done()
			r.Close()
			want := map[string]int64{}
			if tt.one < 1 {
				want["one"] = 3 << 20
			}
			if tt.other < 1 {
				want["other"] = 1 << 20
			}
			if diff := cmp.Diff(want, k.asked); diff != "" {
				t.Errorf("asked for: %s", diff)
			}
			if r.Bytes() != 4<<20 || r.Err() != nil {
				t.Errorf("got %d bytes, %v", r.Bytes(), r.Err())
			}
		})
	}
}

// Without files, or with files that are not there, nobody knows.
func TestNothing(t *testing.T) {
	r := Start()
	defer r.Close()
	if r.Origin() != actions.TierDisk || r.Err() != nil {
		t.Errorf("got %v, %v", r.Origin(), r.Err())
	}
	gone := Start("", filepath.Join(t.TempDir(), "gone.pt"))
	defer gone.Close()
	if gone.Origin() != actions.TierDisk || !errors.Is(gone.Err(), os.ErrNotExist) {
		t.Errorf("got %v, %v", gone.Origin(), gone.Err())
	}
}

func TestBounds(t *testing.T) {
	t.Run("half of the memory", func(t *testing.T) {
		dir := t.TempDir()
		k := &fakeKernel{asked: map[string]int64{}, memory: 4<<20 + 2}
		r := start(k.kernel(), []string{write(t, dir, "a", 1<<20+5), write(t, dir, "b", 3<<20), write(t, dir, "c", 1<<20)})
		<-r.Done()
		if diff := cmp.Diff(map[string]int64{"a": 1<<20 + 5, "b": 1<<20 - 4}, k.asked); diff != "" {
			t.Error(diff)
		}
		r.Close()
	})
	t.Run("no memory", func(t *testing.T) {
		k := &fakeKernel{asked: map[string]int64{}}
		r := start(k.kernel(), []string{write(t, t.TempDir(), "a", 1<<20)})
		<-r.Done()
		if len(k.asked) != 0 {
			t.Errorf("asked for %v", k.asked)
		}
		r.Close()
	})
	t.Run("closed early", func(t *testing.T) {
		k := &fakeKernel{asked: map[string]int64{}, memory: 1 << 40, turn: make(chan struct{})}
		r := start(k.kernel(), []string{write(t, t.TempDir(), "a", 10*chunk)})
		k.turn <- struct{}{}
		go func() { k.turn <- struct{}{} }() // the one that may be under way
		r.Close()
		if got := k.asked["a"]; got != chunk && got != 2*chunk {
			t.Errorf("asked for %d bytes, want %d or twice as many", got, chunk)
		}
		if r.Origin() != actions.TierDisk || r.Bytes() != 10*chunk {
			t.Errorf("got %v, %d bytes", r.Origin(), r.Bytes())
		}
	})
	t.Run("refused", func(t *testing.T) {
		k := &fakeKernel{asked: map[string]int64{}, memory: 1 << 40, broken: unix.EINVAL}
		r := start(k.kernel(), []string{write(t, t.TempDir(), "a", 10*chunk)})
		<-r.Done()
		r.Close()
	})
}

func TestFind(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	for name, size := range map[string]int{
		"model.pt": 1 << 20, "a/Model.SafeTensors": 2 << 20, "a/variables.data-00000-of-00001": 1 << 20,
		"small.pt": 1<<20 - 1, "notes.txt": 1 << 20, "video.mp4": 1 << 20, "no-weights.data-x": 1 << 20,
		".git/objects/big.pt": 1 << 20, "lib/site-packages/theirs.bin": 1 << 20,
	} {
		write(t, dir, name, size)
	}
	blob := write(t, elsewhere, "0123abcd", 1<<20)
	for from, to := range map[string]string{
		"linked.gguf": blob, "again.gguf": blob, "broken.gguf": "nowhere", "folder.gguf": elsewhere, "device.bin": "/dev/zero",
	} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.pt"), 0o600); err != nil {
		t.Fatal(err)
	}
	named := write(t, elsewhere, "anything", 10)
	files, err := find([]string{dir, named, filepath.Join(dir, "model.pt"), "/dev/zero"})
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, strings.TrimPrefix(strings.TrimPrefix(f.path, dir+"/"), elsewhere+"/"))
	}
	want := []string{"a/Model.SafeTensors", "a/variables.data-00000-of-00001", "again.gguf", "model.pt", "anything"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if i := slices.IndexFunc(files, func(f file) bool { return f.path == named }); i < 0 || files[i].size != 10 {
		t.Errorf("the file that was named: got %v", files)
	}
}

// A folder with too many entries is searched as far as that.
func TestFindIsBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.pt", 1<<20)
	for i := range maxEntries {
		if err := os.Symlink("x", fmt.Sprintf("%s/b%d", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "z.pt", 1<<20)
	files, err := find([]string{dir})
	if len(files) != 1 || !errors.Is(err, errFull) {
		t.Errorf("got %v, %v", files, err)
	}
}

// The two system calls agree with each other, and what was read ahead is there.
func TestKernel(t *testing.T) {
	path := write(t, t.TempDir(), "model.pt", 8<<20+5)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	page := int64(os.Getpagesize())
	whole := (8<<20 + 5 + page - 1) / page * page
	wantCore(t, f, whole)
	if n, err := cachestat(f); err != nil && !errors.Is(err, unix.ENOSYS) || err == nil && n != whole {
		t.Errorf("cachestat of a file that was written: got %d, %v, want %d", n, err, whole)
	}
	// On tmpfs this does nothing, and the rest is as true.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	wantCore(t, f, cached(f, 8<<20+5))
	r := Start(path)
	<-r.Done()
	wantCore(t, f, whole)
	r.Close()
	again := Start(path)
	defer again.Close()
	if got := again.Cached(); got != 1 || again.Origin() != actions.TierCache {
		t.Errorf("after reading ahead: got %v, %v", got, again.Origin())
	}
}

// wantCore waits until mincore finds so many bytes.
func wantCore(tb testing.TB, f *os.File, want int64) {
	tb.Helper()
	got := int64(-1)
	for end := time.Now().Add(30 * time.Second); got != want; time.Sleep(time.Millisecond) {
		var err error
		if got, err = mincore(f, 8<<20+5); err != nil || time.Now().After(end) {
			tb.Fatalf("mincore: got %d, %v, want %d", got, err, want)
		}
	}
}

func TestAvailable(t *testing.T) {
	if n := available(); n <= 0 {
		t.Errorf("got %d", n)
	}
	for text, want := range map[string]int64{
		"MemTotal:  9 kB\nMemFree: 3 kB\nMemAvailable:   5 kB\n": 5 << 10, "": unknownMemory, "MemAvailable: x kB": unknownMemory,
	} {
		if got := parseAvailable(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
