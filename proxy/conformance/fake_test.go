package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test program a container when it is asked to be one.
func TestMain(m *testing.M) {
	if os.Getenv("CONFORMANCE_FAKE") != "" {
		fakeMain(os.Getenv("CONFORMANCE_FAULT"))
		return
	}
	os.Exit(m.Run())
}

// A fake is a container that knows the actions of the cases by what is in their code, and
// does what they do. It has one fault, or none.
type fake struct {
	fault string

	mu       sync.Mutex // guards what follows, and the streams
	code     string
	env      map[string]any
	draining bool
	flying   sync.WaitGroup
	last     string // the answer before, for the fault of stale answers
	early    string // what was printed at import
}

func fakeMain(fault string) {
	f := &fake{fault: fault}
	port := os.Getenv("PORT")
	if fault == "fixed port" {
		port = os.Getenv("CONFORMANCE_PORT")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:"+port) //nolint:noctx // a test's
	if err != nil {
		panic(err)
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		if fault == "no drain" {
			os.Exit(0)
		}
		f.mu.Lock()
		f.draining = true
		f.mu.Unlock()
		f.flying.Wait()
		time.Sleep(800 * time.Millisecond)
		os.Exit(0)
	}()
	server := http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	panic(server.Serve(ln))
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	status, answer := http.StatusNotFound, `{"error":"unknown path"}`
	switch {
	case f.fault == "any path" && r.URL.Path != "/init" && r.URL.Path != "/run":
		status = http.StatusOK
	case r.URL.Path != "/init" && r.URL.Path != "/run":
	case r.Method != http.MethodPost && f.fault != "any method":
		status, answer = http.StatusMethodNotAllowed, `{"error":"want POST"}`
	case r.URL.Path == "/init":
		status, answer = f.init(body)
	default:
		status, answer = f.run(body)
	}
	if f.fault == "spaced" {
		answer = spaced(answer)
	}
	if answer == "hang up" {
		panic(http.ErrAbortHandler)
	}
	switch {
	case f.fault == "chunks" || f.fault == "chunked errors" && status != http.StatusOK:
		w.WriteHeader(status)
		w.(http.Flusher).Flush()
	default:
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.WriteHeader(status)
	}
	_, _ = io.WriteString(w, answer)
}

// spaced writes an object of texts as Python's json does, with spaces.
func spaced(answer string) string {
	return strings.ReplaceAll(answer, `":"`, `": "`)
}

func refusal(text string) string { return encode(map[string]any{"error": text}) + "\n" }

func (f *fake) init(body []byte) (int, string) {
	var doc struct {
		Value struct {
			Code, Main string
			Binary     bool
			Env        map[string]any
		} `json:"value"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return http.StatusBadRequest, refusal("Error unmarshaling request: " + err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	in := doc.Value
	switch {
	case f.code != "" && f.fault != "init twice":
		if f.fault != "silent second init" {
			fmt.Println(onlyOnce)
		}
		if f.fault == "sentinel of init" {
			fmt.Println(sentinel)
		}
		return http.StatusForbidden, onlyOnceOut + "\n"
	case in.Code == "" && f.fault == "init without code":
		return http.StatusOK, initialized
	case in.Code == "":
		return http.StatusForbidden, missingCode + "\n"
	case in.Code == "***":
		return http.StatusBadRequest, refusal("cannot decode the request")
	case strings.HasPrefix(in.Code, "#!"), strings.HasPrefix(in.Code, "package") || strings.Contains(in.Code, "function"):
		return http.StatusBadGateway, refusal("SyntaxError")
	case in.Binary, strings.Contains(in.Code, "def main(args)\n"), strings.Contains(in.Code, "is_nowhere"), strings.Contains(in.Code, "import sys\nsys.exit"):
		return f.badInit(in.Code)
	}
	f.code, f.env = in.Code, in.Env
	if strings.Contains(in.Code, "print('SOME_VAR") {
		fmt.Println("SOME_VAR is", in.Env["SOME_VAR"])
	}
	return http.StatusOK, initialized + "\n"
}

func (f *fake) badInit(string) (int, string) {
	if f.fault == "accepts anything" {
		f.code = echo().python
		return http.StatusOK, initialized
	}
	fmt.Fprintln(os.Stderr, "Traceback: Zip file does not include it. Command exited abruptly during initialization.")
	f.end()
	return http.StatusBadGateway, refusal("Cannot start action: it is not right")
}

// end writes the sentinels.
func (f *fake) end() {
	switch f.fault {
	case "no sentinels":
		return
	case "no sentinel on stderr":
		fmt.Println(sentinel)
		return
	case "late sentinels":
		time.AfterFunc(4*settle, func() { fmt.Printf("%s\n", sentinel); fmt.Fprintln(os.Stderr, sentinel) })
		return
	case "double sentinels":
		fmt.Println(sentinel)
	}
	fmt.Println(sentinel)
	fmt.Fprintln(os.Stderr, sentinel)
}

func (f *fake) run(body []byte) (int, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.code == "" {
		return http.StatusInternalServerError, notYet + "\n"
	}
	if f.draining {
		f.end()
		return http.StatusServiceUnavailable, refusal("draining")
	}
	f.flying.Add(1)
	defer f.flying.Done()
	defer f.end()
	doc, _ := decode(body).(map[string]any)
	if doc == nil {
		return http.StatusBadRequest, refusal("Error unmarshaling request")
	}
	value := doc["value"]
	switch value.(type) {
	case nil:
		value = map[string]any{}
		if _, there := doc["value"]; there && f.fault == "null" {
			return http.StatusOK, "null"
		}
	case map[string]any, []any:
	default:
		if f.fault != "scalars" {
			return http.StatusNotFound, refusal("not a dictionary")
		}
	}
	answer := f.act(value, doc)
	previous := f.last
	f.last = answer
	switch {
	case f.fault == "stale answers" && previous != "":
		answer = previous
	case f.fault == "status":
		return http.StatusCreated, answer
	}
	return f.status(answer), answer
}

// status is what an answer goes with.
func (f *fake) status(answer string) int {
	switch {
	case answer == notADict && f.fault != "strings":
		return http.StatusBadGateway
	case strings.Contains(answer, "command exited") && f.fault != "exits are 200":
		return http.StatusBadRequest
	}
	return http.StatusOK
}
