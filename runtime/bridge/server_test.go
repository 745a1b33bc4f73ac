package bridge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/deepfn/deepfn/actions"
)

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
	Trace  actions.Trace       `json:"trace,omitzero"`
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
		if dir := os.Getenv("HANGING"); dir != "" {
			if f, err := os.CreateTemp(dir, "hanging"); err == nil {
				_ = f.Close()
			}
		}
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
	s.Trace = actions.Trace{Parent: r.Header.Get("traceparent"), State: r.Header.Get("tracestate")}
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
