package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// childMode and childPath are the variables that make this program a child of a test.
const (
	childMode = "DEEPFN_TEST_STORE"
	childPath = "DEEPFN_TEST_STORE_FILE"
)

func TestMain(m *testing.M) {
	path, mode := os.Getenv(childPath), os.Getenv(childMode)
	switch round, ok := strings.CutPrefix(mode, "write"); {
	case ok:
		first, err := strconv.Atoi(round)
		if err != nil {
			panic(err)
		}
		writeForEver(path, first*100_000)
	case mode == "full":
		fillTheDisk(path)
	default:
		os.Exit(m.Run())
	}
}

// child starts this program as a child.
func child(t *testing.T, mode, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// writeForEver begins and ends activations from 16 goroutines, and says of each step when
// it was acknowledged. Each goroutine has a million numbers, of which it begins with first.
func writeForEver(path string, first int) {
	s, err := store.Open(store.Config{Path: path})
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex // one line at a time
	say := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, n)
	}
	for c := range 16 {
		go func() {
			for n := c*1_000_000 + first; ; n++ {
				r := record(n)
				err := s.Begin(context.Background(), store.Pending{Namespace: "guest", ID: r.ID, Start: r.Start})
				if err == nil {
					say("begun", n)
					err = s.End(context.Background(), r)
				}
				if err == nil {
					say("ended", n)
					err = s.Update(func(tx *store.Tx) error {
						return tx.PutEntity(store.Key{whisk.Actions, "guest", "", fmt.Sprint(c)}, fmt.Append(nil, n))
					})
				}
				if err != nil {
					panic(err)
				}
				say("put", n)
			}
		}()
	}
	select {}
}

// TestKill kills a process that writes, several times with the same file: what was
// acknowledged is there.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	begun, ended, put := map[int]bool{}, map[int]bool{}, map[int]int{}
	for round := range 4 {
		cmd, lines := child(t, fmt.Sprint("write", round), path)
		enough := 300 + rand.IntN(300)
		for seen := 0; lines.Scan(); seen++ {
			var what string
			var n int
			if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
				break // the last line, cut off
			}
			switch what {
			case "begun":
				begun[n] = true
			case "ended":
				ended[n] = true
			case "put":
				put[n/1_000_000] = n
			}
			if seen == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		checkAcknowledged(t, path, begun, ended, put)
	}
}

func checkAcknowledged(t *testing.T, path string, begun, ended map[int]bool, put map[int]int) {
	t.Helper()
	s, err := store.Open(store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	pending, err := s.Pending()
	if err != nil {
		t.Fatal(err)
	}
	waiting := map[string]bool{}
	for _, p := range pending {
		waiting[p.ID] = true
	}
	for n := range begun {
		r := record(n)
		doc, err := s.Activation("guest", r.ID)
		switch {
		case err == nil && string(doc) == string(r.Doc) && !waiting[r.ID]:
		case actions.CodeOf(err) == actions.NotFound && waiting[r.ID] && !ended[n]:
		default:
			t.Errorf("%d: ended %t, pending %t, %q, %v", n, ended[n], waiting[r.ID], doc, err)
		}
	}
	listed := map[int]bool{}
	for _, n := range ids(t, s, "guest", whisk.ActivationQuery{}) {
		listed[n] = true
	}
	for n := range ended {
		if !listed[n] {
			t.Errorf("%d is not listed", n)
		}
	}
	err = s.View(func(tx *store.Tx) error {
		for c, n := range put {
			var got int
			_, err := fmt.Sscan(string(tx.Entity(store.Key{whisk.Actions, "guest", "", fmt.Sprint(c)})), &got)
			if got < n || err != nil {
				t.Errorf("entity %d: got %d, want %d or later", c, got, n)
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Error(err)
	}
	t.Logf("%d begun, %d ended, %d listed, %d pending", len(begun), len(ended), len(listed), len(pending))
}

// fillTheDisk writes until a file may not grow any more, then lets it. It speaks of what
// goes wrong.
func fillTheDisk(path string) {
	signal.Ignore(syscall.SIGXFSZ) // thus writes fail
	limit := func(size uint64) {
		var now unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_FSIZE, &now)
		now.Cur = size
		if err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_FSIZE, &now)); err != nil {
			panic(err)
		}
	}
	s, err := store.Open(store.Config{Path: path})
	if err != nil {
		panic(err)
	}
	kept := map[int]bool{}
	var mu sync.Mutex // guards kept and full
	full := 0
	round := func(from int) {
		var wg sync.WaitGroup
		for n := from; n < from+64; n++ {
			wg.Go(func() {
				r := record(n)
				r.Logs = make([]byte, 20<<10)
				if n%16 == 0 {
					r.Logs = make([]byte, 8<<20) // never has room
				}
				err := s.End(context.Background(), r)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					kept[n] = true
				case actions.CodeOf(err) == actions.Unavailable && strings.Contains(err.Error(), "it could not be written"):
					full++
				default:
					fmt.Println("wrong:", err)
				}
			})
		}
		wg.Wait()
	}
	for _, size := range []int{9 << 20, 0} { // makes the file as long as it will be
		if err := s.End(context.Background(), store.Record{Namespace: "guest", ID: "first", Logs: make([]byte, size)}); err != nil {
			panic(err)
		}
	}
	limit(6 << 20)
	for i := range 6 {
		round(i * 64)
	}
	some, refused := len(kept), full
	if err := s.Update(func(tx *store.Tx) error {
		return tx.PutEntity(store.Key{Name: "big"}, make([]byte, 8<<20))
	}); actions.CodeOf(err) != actions.Unavailable {
		fmt.Println("wrong: an entity:", err)
	}
	if err := errors.Join(s.Close()); err != nil {
		fmt.Println("wrong:", err)
	}
	if s, err = store.Open(store.Config{Path: path}); err != nil { // on a full disk
		panic(err)
	}
	limit(unix.RLIM_INFINITY)
	round(10_000)
	if full != refused || len(kept) != some+64 || some < 64 || refused < 80 {
		fmt.Printf("wrong: %d kept, %d refused, then %d and %d\n", some, refused, len(kept), full)
	}
	for n := range kept {
		if _, err := s.Record("guest", record(n).ID); err != nil {
			fmt.Println("wrong:", err)
		}
	}
	count, err := s.CountActivations("guest", whisk.ActivationQuery{})
	if count != len(kept)+1 || err != nil {
		fmt.Println("wrong:", count, "listed,", err)
	}
	fmt.Println("done", some, refused, errors.Join(s.Close()))
}

// TestNoSpace sees that writes fail while there is no space, that those fit which are small
// enough, and that all is well when there is space again.
func TestNoSpace(t *testing.T) {
	cmd, lines := child(t, "full", filepath.Join(t.TempDir(), "s"))
	last := ""
	for lines.Scan() {
		last = lines.Text()
		if strings.HasPrefix(last, "wrong") {
			t.Error(last)
		}
	}
	if err := cmd.Wait(); err != nil || !strings.HasPrefix(last, "done") || !strings.HasSuffix(last, "<nil>") {
		t.Errorf("%v, %q", err, last)
	}
	t.Log(last)
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	cmd, lines := child(t, "write0", path)
	if !lines.Scan() {
		t.Fatal("the child writes nothing")
	}
	_, err := store.Open(store.Config{Path: path})
	if want := "store " + path + ": another process has it: end that one, or use another file"; actions.CodeOf(err) != actions.Unavailable || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = open(t, store.Config{Path: path})
}
