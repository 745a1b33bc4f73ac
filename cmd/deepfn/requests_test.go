package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRequestFaults sends a sound model what nobody should send.
func TestRequestFaults(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	worker := p.workerID()
	const bad = `{"json":["Invalid JSON body."]}`
	for _, c := range []struct {
		name, body string
		status     int    // under /v2/
		v2, run    string // are in the answers; that of /run has status 200
	}{
		{"NaN", `{"any":NaN}`, 400, bad, "Error unmarshaling request"},
		{"Infinity", `{"any":-Infinity}`, 400, bad, "Error unmarshaling request"},
		{"lone surrogate", `{"text":"a\ud800b"}`, 200, `"text": "a\ud800b"`, `"text": "a\ud800b"`},
		{"zero byte in a text", `{"text":"a\u0000b"}`, 200, `"text": "a\u0000b"`, `"text": "a\u0000b"`},
		{"duplicate keys", `{"n":1,"n":2}`, 200, `"n": 2`, `"n": 2`},
		{"nested 10,000 deep", `{"any":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, 400, bad, "Error unmarshaling request"},
		{"nested 890 deep", `{"any":` + strings.Repeat("[", 890) + strings.Repeat("]", 890) + `}`, 0, "", ""},
		{"integer beyond 64 bits", `{"n":123456789012345678901234567890}`, 200, `"n": 123456789012345678901234567890`, `"n": 123456789012345678901234567890`},
		{"integer of 5,000 digits", `{"n":` + strings.Repeat("9", 5000) + `}`, 400, "4300 digits", "4300 digits"},
		{"number beyond a double", `{"any":1e400}`, 200, `"any": null`, `"any": null`},
		{"not UTF-8", "{\"text\":\"\xff\"}", 400, bad, "not UTF-8"},
		{"more behind the end", `{"n":1} x`, 400, bad, "Error unmarshaling request"},
		{"an array for arguments by name", `[1]`, 422, `{"json":["Invalid input type."]}`, "Invalid input type."},
		{"null", `null`, 200, `"n": 0`, `"n": 0`},
		{"an unknown argument", `{"nope":1}`, 200, `"n": 0`, `"n": 0`},
		{"a text for an integer", `{"n":"x"}`, 422, `{"n":["Not a valid integer."]}`, "n: Not a valid integer."},
		{"a text for a file", `{"data":"not base64!"}`, 422, `{"data":["Not valid base64."]}`, "data: Not valid base64."},
		{"a number for a file", `{"data":7}`, 422, `{"data":["Must be an uploaded file."]}`, "data: Must be an uploaded file."},
		{"a file for a text", `{"text":{"data":"aGVsbG8="}}`, 422, `{"text":["Not a valid string."]}`, "text: Not a valid string."},
		{"10,000 items", `{"items":[` + strings.Repeat("1,", 9999) + `1]}`, 200, `"items": 10000`, `"items": 10000`},
		{"an item that is wrong", `{"items":[1,"x"]}`, 422, `{"items":["1: Not a valid integer."]}`, "Not a valid integer."},
	} {
		t.Run(c.name, func(t *testing.T) {
			v2, run := p.v2(c.body), p.run(c.body)
			if c.status == 0 { // near the limits of either side: an answer is all that is wanted
				record(t, "JSON: "+c.name, v2, run, "goes on")
				if v2.status >= 500 || run.status != 200 {
					t.Errorf("got %d %.300s and %d %.300s, want no fault of the server's", v2.status, v2.body, run.status, run.body)
				}
				return
			}
			if !v2.has(c.status, c.v2) {
				t.Errorf("/v2: got %d %.300s, want %d with %s", v2.status, v2.body, c.status, c.v2)
			}
			if !run.has(200, c.run) {
				t.Errorf("/run: got %d %.300s, want 200 with %s", run.status, run.body, c.run)
			}
			record(t, "JSON: "+c.name, v2, run, "goes on")
		})
	}
	if after := p.workerID(); after != worker {
		t.Errorf("worker %d became %d, want that no request ends it", worker, after)
	}
}

// TestFormFaults sends forms with what belongs elsewhere.
func TestFormFaults(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	many := func(n int) (of [][3]string) {
		for i := range n {
			of = append(of, [3]string{"items", "", strconv.Itoa(i)})
		}
		return of
	}
	for _, c := range []struct {
		name   string
		of     [][3]string
		status int
		body   string
	}{
		{"a file", [][3]string{{"data", "a.png", "hello"}}, 200, `"data": 5`},
		{"a text for a file", [][3]string{{"data", "", "hello"}}, 422, `{"data":["Must be an uploaded file."]}`},
		{"a file for a text", [][3]string{{"text", "a.txt", "hello"}}, 422, `{"text":["Not a valid string."]}`},
		{"a file for an integer", [][3]string{{"n", "a.txt", "5"}}, 422, `{"n":["Not a valid integer."]}`},
		{"two files of one name", [][3]string{{"data", "a", "first"}, {"data", "b", "2"}}, 200, `"data": 5`},
		{"two texts of one name", [][3]string{{"text", "", "a"}, {"text", "", "b"}}, 200, `"text": "a"`},
		{"900 items", many(900), 200, `"items": 900`},
		{"10,000 items", many(10000), 200, `"items": 10000`},
		{"30,000 items", many(30000), 400, "more than 20000 parts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			media, body := parts(t, c.of...)
			r := p.mustPost(faultsRoute, media, body)
			if !r.has(c.status, c.body) {
				t.Errorf("got %d %.300s, want %d with %s", r.status, r.body, c.status, c.body)
			}
			record(t, "form: "+c.name, r, "-", "goes on")
		})
	}
	r := p.mustPost(faultsRoute+"?n=5&text=q", "application/x-www-form-urlencoded", []byte("n=7&text=f&items=1&items=2"))
	if !r.has(200, `"n": 5, "items": 2, "data": 0, "text": "q"`) {
		t.Errorf("query and form: got %d %s, want that the query counts", r.status, r.body)
	}
}

// zeros are a body of n bytes that nobody has in memory.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

// TestHugeUpload sends 2 GiB where 48 MiB are allowed. They are refused, and never are in
// memory or on disk.
func TestHugeUpload(t *testing.T) {
	t.Parallel()
	p := servePython(t, copyOf(t, "faults.py"))
	for _, c := range []struct {
		name   string
		length int64
	}{{"with Content-Length", 2 << 30}, {"chunked", -1}} {
		for path, want := range map[string]int{faultsRoute: 413, "/run": 200} {
			t.Run(c.name+path, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+path, &zeros{2 << 30})
				if err != nil {
					t.Fatal(err)
				}
				req.ContentLength = c.length
				req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
				r, err := do(req)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d %s", r.status, r.body)
				record(t, "2 GiB "+c.name+" to "+path, r, "", "goes on")
				if r.status != want || !strings.Contains(r.body, "over the limit of 50331648 bytes") {
					t.Errorf("got %d %.300s, want %d", r.status, r.body, want)
				}
			})
		}
	}
	p.workerID()
	peak := p.peakMemory() >> 10
	t.Logf("peak of the server's memory: %d KiB", peak)
	if peak > 200<<10 {
		t.Errorf("the server took %d KiB, want less than 200 MiB", peak)
	}
}

// TestLoadFaults serves models that cannot be loaded: the server lives, says why, and is
// not ready.
func TestLoadFaults(t *testing.T) {
	t.Parallel()
	const sound = "def predict(a: int = 0):\n    return {'a': a}\n"
	for _, c := range []struct {
		name, text, want string
		log              string // is on stderr
	}{
		{"import raises", "raise ValueError('no weights')\n" + sound, "ValueError: no weights", "Traceback"},
		{"syntax error", "def predict(:\n", "SyntaxError", "SyntaxError"},
		{"missing package", "import nonexistent_package\n" + sound, "No module named 'nonexistent_package'", "Traceback"},
		{"no entry point", "x = 1\n", "neither get_predict_args, nor main(args), nor predict", ""},
		{
			"two models", "class A:\n    def get_predict_args(self): return {}\n    def predict(self, **k): return 1\n" +
				"class B:\n    def get_predict_args(self): return {}\n    def predict(self, **k): return 2\n",
			"several models: A, B; choose one", "",
		},
		{"sys.exit at import", "import sys\nsys.exit(3)\n", "Command exited abruptly during initialization", ""},
		{"_exit at import", "import os\nos._exit(3)\n", "the process ended: exit status 3", ""},
		{"crash at import", "import ctypes\nctypes.string_at(0)\n", "segmentation fault", "Fatal Python error"},
		{"warm raises", sound + "def warm():\n    raise OSError('no GPU')\n", "warm: OSError: no GPU", "Traceback"},
		{"warm exits", sound + "import sys\ndef warm():\n    sys.exit(4)\n", "warm called sys.exit(4)", ""},
		{"warm is killed for memory", sound + "import os\ndef warm():\n    os.kill(os.getpid(), 9)\n", "for want of memory", ""},
		{"warm has no memory", sound + "def warm():\n    raise MemoryError\n", "warm: warm ran out of memory", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newServer(t)
			p.serve(&p.stdout, lay(t, "broken.py", c.text), "--python", current(t))
			v2, run := p.mustPost("/v2/models/broken/predict/", jsonMedia, []byte(`{}`)), p.run(`{}`)
			if !v2.has(503, c.want) {
				t.Errorf("/v2: got %d %s, want 503 with %s", v2.status, v2.body, c.want)
			}
			if !run.has(200, c.want) || !strings.HasPrefix(run.body, `{"error":"broken could not be started`) {
				t.Errorf("/run: got %d %s, want 200 with %s", run.status, run.body, c.want)
			}
			if r := p.mustGet("/readyz"); !r.has(503, c.want) {
				t.Errorf("/readyz: got %d %s, want 503 with %s", r.status, r.body, c.want)
			}
			if r := p.mustGet("/v2/models/broken/"); r.status != 200 {
				t.Errorf("metadata: got %d %s, want 200", r.status, r.body)
			}
			if log := p.stderr.String(); !strings.Contains(log, c.log) {
				t.Errorf("stderr has no %s: %s", c.log, log)
			}
			record(t, "load: "+c.name, v2, run, "started again, with growing delays")
			if code := p.stop(); code != 0 {
				t.Errorf("exit code: got %d, want 0", code)
			}
		})
	}
}

// A model whose warm hangs: requests end by their deadlines, and SIGTERM ends the server.
func TestWarmHangs(t *testing.T) {
	t.Parallel()
	p := newServer(t)
	p.serve(&p.stdout, lay(t, "slow.py", "import time\ndef main(args):\n    return {}\ndef warm():\n    print('warming')\n    time.sleep(600)\n"), "--python", current(t))
	deadline := time.Now().Add(500 * time.Millisecond).UnixMilli()
	run := p.mustPost("/run", jsonMedia, fmt.Appendf(nil, `{"value":{},"deadline":"%d"}`, deadline))
	if !run.has(200, "deadline") {
		t.Errorf("/run: got %d %s, want 200 and the deadline", run.status, run.body)
	}
	if r := p.mustGet("/readyz"); !r.has(503, "being loaded") {
		t.Errorf("/readyz: got %d %s, want that it is being loaded", r.status, r.body)
	}
	record(t, "load: warm hangs", "waits for the start", run, "is being started, for `StartTimeout` at most")
	pids := p.children()
	if code := p.stop(); code != 0 {
		t.Errorf("exit code after SIGTERM: got %d, want 0", code)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("worker %d lives after the server", pid)
		}
	}
}

// TestUploadsAreRemoved: no upload is left on disk, whatever ends its request. What a dead
// worker left goes with the first upload of its successor.
func TestUploadsAreRemoved(t *testing.T) {
	t.Parallel()
	p := servePython(t, lay(t, "stores.py", `
import os, time
from pathlib import Path

def predict(file: Path, how: str = ""):
    if how == "raise":
        raise ValueError(how)
    if how == "exit":
        os._exit(3)
    if how == "hang":
        time.sleep(600)
    if how == "delete":
        os.unlink(file)
    return {"suffix": Path(file).suffix}
`))
	for _, how := range []string{"", "raise", "delete", "hang", "exit"} {
		deadline := time.Now().Add(500 * time.Millisecond).UnixMilli()
		r := p.mustPost("/run", jsonMedia, fmt.Appendf(nil, `{"value":{"file":{"data":"aGVsbG8=","filename":"a.png"},"how":%q},"deadline":"%d"}`, how, deadline))
		if r.status != 200 {
			t.Errorf("%s: got %d %s", how, r.status, r.body)
		}
	}
	media, body := parts(t, [3]string{"file", "a.png", "hello"})
	if r := p.mustPost("/v2/models/stores/predict/", media, body); !r.has(200, `{"suffix": ".png"}`) {
		t.Errorf("got %d %s, want the suffix", r.status, r.body)
	}
	if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left, want nothing", left, err)
	}
}
