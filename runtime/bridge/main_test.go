package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/bridge"
	"github.com/deepfn/deepfn/runtime/worker"
)

// The variables that say what the test binary is.
const (
	childVariable  = "DEEPFN_TEST_CHILD"  // the child of a worker
	serverVariable = "DEEPFN_TEST_SERVER" // a server, with the fault of its start
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(serverVariable) != "":
		serve(os.Getenv(serverVariable))
	case os.Getenv(childVariable) != "":
		p := bridge.New()
		err := worker.Serve(context.Background(), p)
		p.Close()
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The starts of the server.
const (
	startPlain   = "plain"
	startSlow    = "slow"    // first says that it is not ready, then hangs up, then is
	startExit    = "exit"    // says why and exits
	startNever   = "never"   // takes connections and does not answer
	startGarbage = "garbage" // lists its models in words
	startTwo     = "two"     // has two models
	startNone    = "none"    // has none
	startBare    = "bare"    // has no swagger.json
	startSecond  = "second"  // exits when it was started before
)

// serve is the other program: a server of the DEEPaaS V2 API.
func serve(start string) {
	first := true
	if name := os.Getenv("STARTS"); name != "" {
		f, _ := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		_, _ = f.WriteString("x")
		fi, _ := f.Stat()
		first = fi.Size() == 1
	}
	if start == startExit || start == startSecond && !first {
		_, _ = fmt.Fprintln(os.Stderr, "no weights here")
		os.Exit(3)
	}
	mux := http.NewServeMux()
	base := os.Getenv("BASE")
	mux.HandleFunc("GET "+base+"/v2/models/{$}", list(start))
	mux.HandleFunc("GET "+base+"/v2/models/cats/{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id":"1","name":"A cat","pid":%d,"links":[]}`, os.Getpid())
	})
	mux.HandleFunc("POST "+base+"/v2/models/cats/predict/{$}", predict)
	if start != startBare {
		mux.HandleFunc("GET "+base+"/swagger.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, swagger) })
	}
	trainings(mux, base+"/v2/models/cats/train/")
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux)
	_, _ = fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// list answers the list of models.
func list(start string) http.HandlerFunc {
	var asked atomic.Int32
	entry := func(name string) string {
		return fmt.Sprintf(`{"id":"1","name":"A cat","links":[{"rel":"self","href":"/v2/models/%s"}],"license":"MIT"}`, name)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		switch {
		case start == startNever:
			hang()
		case start == startGarbage:
			_, _ = io.WriteString(w, `{"models":"many"}`)
		case start == startSlow && n == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case start == startSlow && n == 2:
			panic(http.ErrAbortHandler)
		case start == startSlow && n == 3:
			_, _ = io.WriteString(w, "<html>soon</html>")
		case start == startTwo:
			_, _ = fmt.Fprintf(w, `{"models":[%s,%s]}`, entry("dogs"), entry("cats"))
		case start == startNone:
			_, _ = io.WriteString(w, `{"models":[]}`)
		default:
			_, _ = fmt.Fprintf(w, `{"models":[%s]}`, entry("cats"))
		}
	}
}

const swagger = `{"swagger":"2.0","paths":{
 "/v2/models/cats/predict/":{"post":{"parameters":[
  {"in":"formData","name":"image","type":"file","required":true,"description":"A picture."},
  {"in":"formData","name":"more","type":"file"},
  {"in":"query","name":"top","type":"integer","format":"int32","default":5,"minimum":1,"x-thing":1},
  {"in":"query","name":"tags","type":"array","items":{"type":"string","x-thing":1},"collectionFormat":"multi"},
  {"in":"formData","name":"mode","type":"string","enum":["fast","good"]},
  {"in":"header","name":"X-Key","type":"string"},
  {"in":"header","name":"accept","type":"string","enum":["application/json","image/png","*/*"],"default":"application/json"}]}},
 "/v2/models/cats/train/":{"post":{"parameters":[{"in":"query","name":"epochs","type":"integer","required":true}]},"get":{}},
 "/v2/models/cats/train/{uuid}":{"get":{}},
 "/v2/models/dogs/predict/":{"post":{"parameters":[]}}}}`

// A seen is what the server saw of a request, which it answers as its prediction.
type seen struct {
	Query  map[string][]string `json:"query"`
	Form   map[string][]string `json:"form"`
	Files  map[string][]string `json:"files"` // filename, type and bytes
	JSON   json.RawMessage     `json:"json"`
	Accept string              `json:"accept"`
	Key    string              `json:"key"`
}

// predict does what the parameter "do" of the query string says, and else tells what it
// saw.
func predict(w http.ResponseWriter, r *http.Request) {
	text := func(contentType string, status int, body string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
	_, _ = fmt.Fprintln(os.Stderr, "predicting")
	switch do := r.URL.Query().Get("do"); do {
	case "hang":
		hang()
	case "die":
		os.Exit(7)
	case "hangup":
		panic(http.ErrAbortHandler)
	case "half":
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "{")
		panic(http.ErrAbortHandler)
	case "garbage":
		text("application/json", 200, `{"status":`)
	case "huge":
		text("application/json", 200, `["`+strings.Repeat("x", 5<<20)+`"]`)
	case "endless":
		for b := bytes.Repeat([]byte("x"), 1<<20); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	case "redirect":
		http.Redirect(w, r, "?do=", http.StatusPermanentRedirect)
	case "loop":
		http.Redirect(w, r, "?do=loop", http.StatusPermanentRedirect)
	case "elsewhere":
		http.Redirect(w, r, "http://127.0.0.1:1/x", http.StatusPermanentRedirect)
	case "see-other":
		http.Redirect(w, r, "/v2/models/", http.StatusSeeOther)
	case "422":
		text("application/json", 422, `{"image": ["Missing data for required field."]}`)
	case "422-located":
		text("application/json", 422, `{"query": {"top": ["Not a number."]}}`)
	case "400-reason":
		text("text/plain; charset=utf-8", 400, "400: no cat in the picture")
	case "html":
		text("text/html", 500, "<html><body>oops</body></html>")
	case "message":
		text("application/json", 503, `{"message":"later"}`)
	case "402":
		text("text/plain", 402, "")
	case "404":
		text("application/json", 404, `{"x":1}`)
	case "413":
		text("text/plain", 413, "too much\x00\xff")
	case "image":
		w.Header().Set("Content-Disposition", `attachment; filename="../../cat.png"`)
		text("image/png", 200, "\x89PNG\x00\xff")
	case "empty":
		w.WriteHeader(http.StatusNoContent)
	case "whole":
		text("application/json", 200, `{"status":"OK","predictions":1,"more":2}`)
	case "whole-error":
		text("application/json", 200, `{"status":"error","predictions":1}`)
	case "whole-list":
		text("application/json", 200, `[1,2]`)
	case "result":
		text("application/json; charset=utf-8", 200, ` {"predictions": {"a": 1.0}, "status": "OK"} `)
	default:
		tell(w, r)
	}
}

func tell(w http.ResponseWriter, r *http.Request) {
	s := seen{Query: r.URL.Query(), Accept: r.Header.Get("Accept"), Key: r.Header.Get("X-Key")}
	if r.Header.Get("Content-Type") == "application/json" {
		s.JSON, _ = io.ReadAll(r.Body)
	} else if err := r.ParseMultipartForm(1 << 20); err == nil || errors.Is(err, http.ErrNotMultipart) {
		s.Form = r.PostForm
	}
	if r.MultipartForm != nil {
		s.Files = map[string][]string{}
		for name, files := range r.MultipartForm.File {
			for _, h := range files {
				f, _ := h.Open()
				b, _ := io.ReadAll(f)
				s.Files[name] = append(s.Files[name], fmt.Sprintf("%s %s %s", h.Filename, h.Header.Get("Content-Type"), b))
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	b, _ := json.Marshal(s)
	_, _ = fmt.Fprintf(w, `{"status":"OK","predictions":%s}`, b)
}

// trainings answers what a training is asked for. Its argument "as" says how it ends.
func trainings(mux *http.ServeMux, route string) {
	var looks atomic.Int32
	var as atomic.Pointer[string]
	mux.HandleFunc("POST "+route+"{$}", func(w http.ResponseWriter, r *http.Request) {
		end := r.URL.Query().Get("as")
		as.Store(&end)
		switch end {
		case "refused":
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"epochs":["Missing data for required field."]}`)
		case "garbage":
			_, _ = io.WriteString(w, "<html>")
		case "nameless":
			_, _ = io.WriteString(w, `{"status":"running"}`)
		default:
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"running"}`)
		}
	})
	mux.HandleFunc("GET "+route+"abc", func(w http.ResponseWriter, _ *http.Request) {
		end := *as.Load()
		if looks.Add(1)%2 == 1 || end == "forever" {
			end = ""
		}
		switch end {
		case "done":
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"done","result":{"output":{"loss":0.5},"finish_date":"x"}}`)
		case "plain":
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"done"}`)
		case "error":
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"error","message":"no data"}`)
		case "cancelled":
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"cancelled"}`)
		case "odd":
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"odd"}`)
		case "gone":
			w.WriteHeader(http.StatusNotFound)
		case "die":
			os.Exit(9)
		default:
			_, _ = io.WriteString(w, `{"uuid":"abc","status":"running"}`)
		}
	})
	mux.HandleFunc("DELETE "+route+"abc", func(http.ResponseWriter, *http.Request) {
		_ = os.WriteFile(os.Getenv("DELETED"), nil, 0o600)
	})
}

func hang() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	for {
		time.Sleep(time.Hour)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// spec is that of the server, with additions to its environment.
func spec(start string, env ...string) bridge.Spec {
	s := bridge.Spec{
		Command: []string{"/proc/self/exe"},
		Env:     map[string]string{serverVariable: start, "PORT": "{port}", "GORACE": "atexit_sleep_ms=0"},
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		s.Env[name] = value
	}
	return s
}

// config is that of a worker.
func config(tb testing.TB, s bridge.Spec) worker.Config {
	tb.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	const limit = 4 << 20
	setup, err := json.Marshal(bridge.NewSetup(actions.Model{Spec: raw}, limit))
	if err != nil {
		tb.Fatal(err)
	}
	return worker.Config{
		Argv: []string{"/proc/self/exe"}, Env: []string{childVariable + "=1", "GORACE=atexit_sleep_ms=0"},
		Setup: setup, MaxPayload: 2 * limit, CancelGrace: patience,
	}
}

// start starts a worker that ends with the test.
func start(tb testing.TB, s bridge.Spec) *worker.Worker {
	tb.Helper()
	w, err := worker.Start(tb.Context(), config(tb, s))
	if err != nil {
		e, _ := errors.AsType[*actions.Error](err)
		tb.Fatalf("Start: %v %v", err, e.Logs)
	}
	tb.Cleanup(func() { _ = w.Close() })
	return w
}

// do returns a request that makes the server do something.
func do(what string) actions.Request {
	return actions.Request{Texts: []actions.Text{{Origin: actions.FromQuery, Name: "do", Value: what}}}
}

// pid returns the id of the server's process.
func pid(tb testing.TB, w *worker.Worker) int {
	tb.Helper()
	resp, err := w.Call(tb.Context(), actions.Request{Verb: actions.Metadata})
	var m struct{ PID int }
	if err != nil || json.Unmarshal(resp.Data, &m) != nil || m.PID == 0 {
		tb.Fatalf("got %s, %v, want a pid", resp.Data, err)
	}
	return m.PID
}

// works checks that the server answers.
func works(tb testing.TB, w *worker.Worker) {
	tb.Helper()
	resp, err := w.Call(tb.Context(), do("result"))
	if err != nil || string(resp.Data) != `{"a": 1.0}` || resp.Whole || resp.ContentType != "application/json" {
		tb.Fatalf("got %s %v, %v", resp.Data, resp.Whole, err)
	}
}

// wantError checks an error and returns it.
func wantError(tb testing.TB, err error, code actions.Code, msg string) *actions.Error {
	tb.Helper()
	e, ok := errors.AsType[*actions.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Msg, msg) {
		tb.Fatalf("got error %q %v, want %q with %q", actions.CodeOf(err), err, code, msg)
	}
	return e
}

// eventually waits until ok.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// alive reports whether a process runs.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0] != "Z" && fields[0] != "X"
}

// listen takes a port and returns it.
func listen(tb testing.TB) (net.Listener, int) {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}
