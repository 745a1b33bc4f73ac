package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startNode starts deepfn node with a front of its own, and returns the URL of its socket.
func startNode(t *testing.T, args ...string) (n *process, url string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "n")
	return startNodeAt(t, socket, args...), "unix://" + socket
}

func startNodeAt(t *testing.T, socket string, args ...string) *process {
	t.Helper()
	n := newServer(t)
	return n.start(&n.stdout, append([]string{"node", "--socket", socket, "--listen", "127.0.0.1:0"}, args...)...)
}

// startRelay starts a relay, and waits until it is ready.
func startRelay(t *testing.T, url string, args ...string) *process {
	t.Helper()
	p := newServer(t)
	p.serve(&p.stdout, append([]string{"--node", url}, args...)...)
	eventually(t, "a relay that is ready", func() bool { return p.mustGet("/readyz").status == 200 })
	return p
}

// coldStarts is how many instances a node has started.
func coldStarts(n *process, model string) string {
	n.t.Helper()
	m := regexp.MustCompile(`(?m)^deepfn_cold_starts_total\{model="` + model + `"\} (\S+)$`).FindStringSubmatch(n.mustGet("/metrics").body)
	if m == nil {
		return "0"
	}
	return m[1]
}

// TestScaleToZeroAndBack ends relays and starts them again: the model stays where it is.
func TestScaleToZeroAndBack(t *testing.T) {
	n, url := startNode(t)
	for i := range 3 {
		relay := startRelay(t, url, "ocr-line")
		r := relay.mustPost("/v2/models/ocr-line/predict/", jsonMedia, pictureJSON(t))
		if r.status != 200 || !strings.Contains(r.body, "warm") {
			t.Errorf("relay %d: got %d %s, want the text of the picture", i, r.status, r.body)
		}
		if got := coldStarts(n, "ocr-line"); got != "1" {
			t.Errorf("after relay %d there were %s starts of instances, want 1", i, got)
		}
		relay.kill()
	}
	if got := len(n.children()); got != 1 {
		t.Errorf("the node has %d children, want the one instance", got)
	}
}

// pictureJSON is a picture of the text "warm" as the JSON of a request.
func pictureJSON(t *testing.T) []byte {
	t.Helper()
	return fmt.Appendf(nil, `{"image":%q}`, base64.StdEncoding.EncodeToString(linePNG(t, "warm")))
}

// TestRelayOfOpenWhisk is what OpenWhisk does with a container that is a relay.
func TestRelayOfOpenWhisk(t *testing.T) {
	_, url := startNode(t)
	relay := startRelay(t, url)
	if r := relay.initialize(`{"model": "ocr-line"}`, "main", nil); r.status != 200 {
		t.Fatalf("/init: got %d %s", r.status, r.body)
	}
	r := relay.run(string(pictureJSON(t)))
	if r.status != 200 || !strings.Contains(r.body, "warm") {
		t.Errorf("/run: got %d %s", r.status, r.body)
	}
	if r := relay.mustGet("/api/v1/"); r.status != 404 || !strings.Contains(r.body, "deepfn node --listen") {
		t.Errorf("the API: got %d %s, want 404 and where it is", r.status, r.body)
	}
	for _, path := range []string{"/metrics", "/v2/models/", "/v2/models/ocr-line/"} {
		if r := relay.mustGet(path); r.status != 200 || !strings.Contains(r.body, "ocr-line") {
			t.Errorf("%s: got %d %.300s, want something on ocr-line", path, r.status, r.body)
		}
	}
}

// TestCodeThroughARelay runs the code of an /init on the node, with what it prints.
func TestCodeThroughARelay(t *testing.T) {
	const code = "import os\n\ndef main(args):\n    print('hello', args['n'])\n    return {'pid': os.getpid(), 'k': os.environ['K']}\n"
	n, url := startNode(t, "--python", current(t), "--idle-time", "1h", "--keep-code", "0s")
	pids := map[string]bool{}
	var relays []*process
	for i := range 2 {
		relay := startRelay(t, url)
		if r := relay.initialize(code, "main", map[string]string{"K": "v"}); r.status != 200 {
			t.Fatalf("/init: got %d %s", r.status, r.body)
		}
		r := relay.run(fmt.Sprintf(`{"n": %d}`, i))
		var answer struct {
			PID int
			K   string
		}
		if err := json.Unmarshal([]byte(r.body), &answer); err != nil || answer.K != "v" {
			t.Errorf("/run: got %d %s", r.status, r.body)
		}
		pids[fmt.Sprint(answer.PID)] = true
		want := fmt.Sprintf("hello %d\n", i)
		eventually(t, "what the function has printed", func() bool { return strings.Contains(relay.stdout.String(), want) })
		relays = append(relays, relay)
	}
	if len(pids) != 1 {
		t.Errorf("the same code of two relays runs in the processes %v, want one", pids)
	}
	for _, relay := range relays {
		relay.kill()
	}
	eventually(t, "that the code is forgotten", func() bool { return strings.Contains(n.stderr.String(), "instance stopped") })
}

// TestNodeIsKilled kills the node below a relay and starts another.
func TestNodeIsKilled(t *testing.T) {
	first, url := startNode(t)
	relay := startRelay(t, url, "ocr-line", "--node-wait", "200ms")
	_ = first.cmd.Process.Kill()
	eventually(t, "that the relay knows", func() bool { return relay.mustGet("/readyz").status == 503 })
	r := relay.mustPost("/v2/models/ocr-line/predict/", jsonMedia, pictureJSON(t))
	if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "does not answer") {
		t.Errorf("got %d %v %s, want 503 with Retry-After", r.status, r.header, r.body)
	}
	startNodeAt(t, strings.TrimPrefix(url, "unix://"))
	eventually(t, "that the relay is ready again", func() bool { return relay.mustGet("/readyz").status == 200 })
	r = relay.mustPost("/v2/models/ocr-line/predict/", jsonMedia, pictureJSON(t))
	if r.status != 200 || !strings.Contains(r.body, "warm") {
		t.Errorf("after the restart: got %d %s", r.status, r.body)
	}
}

// TestFullQueueCrosses has more requests than the node takes.
func TestFullQueueCrosses(t *testing.T) {
	code := "import time\n\ndef main(args):\n    time.sleep(0.5)\n    return {}\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "slow.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	_, url := startNode(t, filepath.Join(dir, "slow.py"), "--python", current(t), "--queue-depth", "1")
	relay := startRelay(t, url, "slow")
	statuses := map[int]int{}
	var mu sync.Mutex // guards statuses
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r, err := relay.post("/v2/models/slow/predict/", jsonMedia, []byte(`{}`))
			if err != nil {
				t.Error(err)
			}
			if r.status == 429 && r.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[r.status]++
		})
	}
	wg.Wait()
	if statuses[200] == 0 || statuses[429] == 0 || statuses[200]+statuses[429] != 20 {
		t.Errorf("got %v, want some 200 and the others 429", statuses)
	}
}

// TestNodeDrains ends a node while a request is under way.
func TestNodeDrains(t *testing.T) {
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	code := "import time\n\ndef main(args):\n    open('" + started + "', 'w').close()\n    time.sleep(0.5)\n    return {'done': True}\n"
	if err := os.WriteFile(filepath.Join(dir, "slow.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	n, url := startNode(t, filepath.Join(dir, "slow.py"), "--python", current(t))
	relay := startRelay(t, url, "slow", "--node-wait", "1s")
	result := make(chan reply, 1)
	go func() {
		r, err := relay.post("/v2/models/slow/predict/", jsonMedia, []byte(`{}`))
		if err != nil {
			t.Error(err)
		}
		result <- r
	}()
	eventually(t, "the call", func() bool {
		_, err := os.Stat(started)
		return err == nil
	})
	if code := n.stop(); code != 0 {
		t.Errorf("the node ends with %d, want 0", code)
	}
	if r := <-result; r.status != 200 {
		t.Errorf("the request that was under way: got %d %s", r.status, r.body)
	}
}

func TestNodeCommandLine(t *testing.T) {
	n, url := startNode(t)
	socket := strings.TrimPrefix(url, "unix://")
	if info, err := os.Stat(socket + ".token"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token: %v, %v; want a file for its owner alone", info, err)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		text string
	}{
		{"a second node", []string{"node", "--socket", socket}, 4, "another node serves"},
		{"a long path", []string{"node", "--socket", "/" + strings.Repeat("x", 120)}, 2, "107"},
		{"no such model", []string{"node", "--socket", socket + "2", "no-such-model"}, 3, "no-such-model"},
		{"no such model of the node", []string{"serve", "--node", url, "--listen", "127.0.0.1:0", "no-such-model"}, 3, "no-such-model"},
		{"both of token and none", []string{"node", "--socket", socket + "2", "--no-token", "--token-file", "x"}, 2, "--no-token"},
		{"a token that is not there", []string{"node", "--socket", socket + "2", "--token-file", "/no/such/file"}, 4, "/no/such/file"},
		{"a short lease", []string{"node", "--lease", "1ms"}, 2, "--lease"},
		{"a flag of the pool", []string{"serve", "--node", url, "--instances", "2"}, 2, "--instances is not for --node"},
		{"no URL", []string{"serve", "--node", "x"}, 2, "unix:///PATH"},
		{"health", []string{"healthcheck", "--node", url}, 0, ""},
		{"health of nobody", []string{"healthcheck", "--node", url + "2"}, 4, "no such file; start 'deepfn node'"},
		{"health with a wrong token", []string{"healthcheck", "--node", url, "--token-file", os.Args[0]}, 4, "token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := n.command(test.args...)
			if got.code != test.code || !strings.Contains(got.stderr, test.text) {
				t.Errorf("got %d, %q; want %d and %q", got.code, got.stderr, test.code, test.text)
			}
		})
	}
}

// TestFrozenRelayLosesItsLease freezes a relay for longer than its lease. What OpenWhisk
// then sends is answered, by the instance that there was.
func TestFrozenRelayLosesItsLease(t *testing.T) {
	n, url := startNode(t, "--lease", "1s")
	relay := startRelay(t, url, "ocr-line")
	_ = relay.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(t, "the end of the lease", func() bool { return strings.Contains(n.stderr.String(), "nothing was heard") })
	time.AfterFunc(50*time.Millisecond, func() { _ = relay.cmd.Process.Signal(syscall.SIGCONT) })
	r := relay.mustPost("/v2/models/ocr-line/predict/", jsonMedia, pictureJSON(t))
	if r.status != 200 || !strings.Contains(r.body, "warm") {
		t.Errorf("after the thaw: got %d %s", r.status, r.body)
	}
	if got := coldStarts(n, "ocr-line"); got != "1" {
		t.Errorf("there were %s starts of instances, want 1", got)
	}
}
