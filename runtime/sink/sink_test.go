package sink

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/cloudevent"
)

// An answer is what a place says to one try.
type answer struct {
	status     int // 0 is a broken connection, hang no answer
	retryAfter string
	body       string
}

const hang = -1

// A place answers as it is told, and then with 202; it keeps what it was sent and when.
type place struct {
	mu       sync.Mutex // guards what follows
	answers  []answer
	requests []*http.Request
	bodies   []string
	at       []time.Time
	inFlight int
	most     int
}

func (p *place) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	next := answer{status: http.StatusAccepted}
	if len(p.answers) > 0 {
		next, p.answers = p.answers[0], p.answers[1:]
	}
	p.requests, p.bodies, p.at = append(p.requests, req), append(p.bodies, string(body)), append(p.at, time.Now())
	p.inFlight++
	p.most = max(p.most, p.inFlight)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.inFlight--
	}()
	switch next.status {
	case hang:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case 0:
		return nil, errors.New("the connection broke")
	}
	h := http.Header{}
	if next.retryAfter != "" {
		h.Set("Retry-After", next.retryAfter)
	}
	return &http.Response{StatusCode: next.status, Header: h, Body: io.NopCloser(strings.NewReader(next.body))}, nil
}

func repeat(n int, a answer) []answer { return slices.Repeat([]answer{a}, n) }

// waits are the times between the tries.
func (p *place) waits() []time.Duration {
	var waits []time.Duration
	for i := 1; i < len(p.at); i++ {
		waits = append(waits, p.at[i].Sub(p.at[i-1]))
	}
	return waits
}

func newSink(t *testing.T, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func event() *cloudevent.Event {
	return &cloudevent.Event{
		ID: "1", Source: "/models/a", Type: cloudevent.Prediction, Subject: "a b", DataContentType: "application/json", Data: []byte(`{"a":1}`),
		Extensions: []cloudevent.Attribute{{Name: "color", Value: "red"}},
	}
}

const (
	own     = "http://sink.example/in"
	letters = "http://letters.example/"
)

func TestSend(t *testing.T) {
	p := &place{}
	s := newSink(t, Config{URL: own, Transport: p, Overrides: `{"extensions":{"Color":"blue","cluster":"1"}}`})
	e := event()
	e.SetExtension("traceparent", "00-1-2-01")
	if err := s.Send(t.Context(), "", e); err != nil {
		t.Fatal(err)
	}
	got := p.requests[0]
	want := http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/models/a"}, "Ce-Type": {"dev.deepfn.prediction"}, "Ce-Subject": {"a%20b"},
		"Ce-Color": {"blue"}, "Ce-Cluster": {"1"}, "Ce-Traceparent": {"00-1-2-01"}, "Traceparent": {"00-1-2-01"},
		"Content-Type": {"application/json"}, "User-Agent": {"deepfn"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" || got.URL.String() != own || p.bodies[0] != `{"a":1}` || got.ContentLength != 7 {
		t.Errorf("got %s %q (-want +got)\n%s", got.URL, p.bodies[0], diff)
	}
	if e.Extension("color") != "red" || len(e.Extensions) != 2 {
		t.Errorf("the caller's event has %v now, want it as it was", e.Extensions)
	}
}

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []answer
		want    []time.Duration // the longest waits; the shortest are half of them, or all of what was asked
		exact   bool
	}{
		{"doubles", repeat(5, answer{status: 503}), []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond}, false},
		{"broken connections", repeat(2, answer{}), []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, false},
		{"as asked", []answer{{status: 429, retryAfter: "7"}, {status: 503, retryAfter: "3"}}, []time.Duration{7 * time.Second, 3 * time.Second}, true},
		{"asked for too much", []answer{{status: 429, retryAfter: "3600"}}, []time.Duration{30 * time.Second}, true},
		{"a date", []answer{{status: 503, retryAfter: "Sat, 01 Jan 2000 00:00:09 GMT"}}, []time.Duration{9 * time.Second}, true},
		{"asked in no words", []answer{{status: 503, retryAfter: "soon"}}, []time.Duration{200 * time.Millisecond}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where it is midnight of 2000-01-01
				p := &place{answers: test.answers}
				if err := newSink(t, Config{URL: own, Transport: p}).Send(t.Context(), "", event()); err != nil {
					t.Fatal(err)
				}
				got := p.waits()
				if len(got) != len(test.want) {
					t.Fatalf("got the waits %v, want %v", got, test.want)
				}
				for i := range got {
					if got[i] > test.want[i] || got[i] < test.want[i]/2 || test.exact && got[i] != test.want[i] {
						t.Errorf("wait %d: got %s, want %s", i, got[i], test.want[i])
					}
				}
			})
		})
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	for _, test := range []struct {
		status, tries int
		code          actions.Code
	}{
		{200, 1, ""},
		{202, 1, ""},
		{204, 1, ""},
		{301, 1, actions.Invalid},
		{307, 1, actions.Invalid},
		{400, 1, actions.Invalid},
		{401, 1, actions.Invalid},
		{403, 1, actions.Invalid},
		{405, 1, actions.Invalid},
		{413, 1, actions.Invalid},
		{422, 1, actions.Invalid},
		{404, 4, actions.Unavailable},
		{408, 4, actions.Unavailable},
		{409, 4, actions.Unavailable},
		{429, 4, actions.Unavailable},
		{500, 4, actions.Unavailable},
		{503, 4, actions.Unavailable},
		{504, 4, actions.Unavailable},
		{0, 4, actions.Unavailable},
	} {
		t.Run(strconv.Itoa(test.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &place{answers: repeat(10, answer{status: test.status, body: "why"})}
				err := newSink(t, Config{URL: own, Transport: p, Retries: 3}).Send(t.Context(), "", event())
				if len(p.requests) != test.tries || actions.CodeOf(err) != test.code {
					t.Errorf("got %d tries, %v (%s), want %d, %q", len(p.requests), err, actions.CodeOf(err), test.tries, test.code)
				}
			})
		})
	}
	p := &place{answers: repeat(10, answer{status: 503})}
	if err := newSink(t, Config{URL: own, Transport: p, Retries: -1}).Send(t.Context(), "", event()); err == nil || len(p.requests) != 1 {
		t.Errorf("no retries: got %d tries, %v, want 1 and an error", len(p.requests), err)
	}
}

func TestDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: append(repeat(3, answer{status: 500, body: "sorry"}), answer{status: 503})}
		s := newSink(t, Config{URL: own, DeadLetter: letters, Transport: p, Retries: 2, Token: "none"})
		if err := s.Send(t.Context(), "", event()); err != nil {
			t.Fatal(err)
		}
		if len(p.requests) != 5 || p.requests[2].URL.String() != own || p.requests[3].URL.String() != letters || p.requests[4].URL.String() != letters {
			t.Fatalf("got %d requests, want 3 to the sink and 2 to the dead-letter sink", len(p.requests))
		}
		h := p.requests[4].Header
		for name, want := range map[string]string{
			"Ce-Knativeerrordest": own, "Ce-Knativeerrorcode": "500", "Ce-Knativeerrordata": "c29ycnk=", "Ce-Id": "1", "Ce-Color": "red",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		if p.bodies[4] != `{"a":1}` {
			t.Errorf("got the data %q, want the event's", p.bodies[4])
		}
	})
}

func TestDeadLetterOfNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: repeat(1, answer{status: hang})}
		s := newSink(t, Config{URL: own + "?key=secret", DeadLetter: letters, Transport: p, Retries: -1})
		began := time.Now()
		if err := s.Send(t.Context(), "", event()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("got %s, want 30 s for a place that hangs", took)
		}
		h := p.requests[1].Header
		if h.Get("Ce-Knativeerrorcode") != "-1" || h.Get("Ce-Knativeerrordest") != own || h.Get("Ce-Knativeerrordata") == "" {
			t.Errorf("got %v", h)
		}
	})
}

func TestLongAnswerInADeadLetter(t *testing.T) {
	p := &place{answers: repeat(1, answer{status: 400, body: strings.Repeat("x", 1<<20)})}
	s := newSink(t, Config{URL: own, DeadLetter: letters, Transport: p})
	if err := s.Send(t.Context(), "", event()); err != nil {
		t.Fatal(err)
	}
	if got := len(p.requests[1].Header.Get("Ce-Knativeerrordata")); got != maxErrorData {
		t.Errorf("got %d characters, want %d", got, maxErrorData)
	}
}

func TestNobodyTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: append(repeat(1, answer{status: 400}), repeat(9, answer{status: 503})...)}
		err := newSink(t, Config{URL: own, DeadLetter: letters, Transport: p}).Send(t.Context(), "", event())
		if actions.CodeOf(err) != actions.Invalid || !strings.Contains(err.Error(), own+" answered 400 Bad Request") {
			t.Errorf("got %v, want Invalid that says what the sink said", err)
		}
		if len(p.requests) != 7 {
			t.Errorf("got %d requests, want 1 to the sink and 6 to the dead-letter sink", len(p.requests))
		}
	})
}

// An event that cannot be sent again in its time goes to the dead-letter sink while there is
// some.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: repeat(1, answer{status: 503, retryAfter: "20"})}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		err := newSink(t, Config{URL: own, DeadLetter: letters, Transport: p}).Send(ctx, "", event())
		if err != nil || time.Since(began) != 0 || len(p.requests) != 2 {
			t.Errorf("got %v after %s and %d requests, want the dead letter at once", err, time.Since(began), len(p.requests))
		}
	})
	synctest.Test(t, func(t *testing.T) { // also when the sink does not answer at all
		p := &place{answers: repeat(1, answer{status: hang})}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		err := newSink(t, Config{URL: own, DeadLetter: letters, Transport: p}).Send(ctx, "", event())
		if err != nil || time.Since(began) != 5*time.Second || len(p.requests) != 2 || p.requests[1].URL.String() != letters {
			t.Errorf("got %v after %s and %d requests, want the dead letter after half of the time", err, time.Since(began), len(p.requests))
		}
	})
	for _, test := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		want actions.Code
	}{
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Second)
		}, actions.Deadline},
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(10*time.Second, cancel)
			return ctx, cancel
		}, actions.Canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &place{answers: repeat(9, answer{status: hang})}
				ctx, cancel := test.end(t.Context())
				defer cancel()
				began := time.Now()
				err := newSink(t, Config{URL: own, DeadLetter: letters, Transport: p}).Send(ctx, "", event())
				if actions.CodeOf(err) != test.want || time.Since(began) != 10*time.Second {
					t.Errorf("got %v (%s) after %s, want %s after 10s", err, actions.CodeOf(err), time.Since(began), test.want)
				}
			})
		})
	}
}

func TestMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: repeat(20, answer{status: hang})}
		s := newSink(t, Config{URL: own, Transport: p, MaxInFlight: 3, Retries: -1, Timeout: time.Second})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := s.Send(t.Context(), "", event()); actions.CodeOf(err) != actions.Unavailable {
					t.Errorf("got %v, want Unavailable", err)
				}
			})
		}
		wg.Wait()
		if p.most != 3 || len(p.requests) != 20 {
			t.Errorf("got %d of %d at the same time, want 3 of 20", p.most, len(p.requests))
		}
	})
}

// Places that hang, which callers name, keep nothing from the sink of the operator.
func TestHangingPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := transportFunc(func(req *http.Request) (*http.Response, error) {
			_ = req.Body.Close()
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		p := &place{}
		s := newSink(t, Config{
			URL: own, DeadLetter: letters, Transport: p, MaxInFlight: 2, Retries: -1,
			Named: func(string) (http.RoundTripper, error) { return hangs, nil },
		})
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _ = s.Send(ctx, "https://caller.example/", event()) })
		}
		synctest.Wait()
		began := time.Now()
		if err := s.Send(t.Context(), "", event()); err != nil || time.Since(began) != 0 || len(p.requests) != 1 {
			t.Errorf("got %v after %v and %d requests", err, time.Since(began), len(p.requests))
		}
		leave()
		wg.Wait()
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: repeat(2, answer{status: 503})}
		s := newSink(t, Config{URL: own, Transport: p})
		sent := make(chan error, 1)
		go func() { sent <- s.Send(t.Context(), "", event()) }()
		synctest.Wait()
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("got %v, want nil when all is sent", err)
		}
		if err := <-sent; err != nil || len(p.requests) != 3 {
			t.Errorf("got %v after %d tries, want nil after 3", err, len(p.requests))
		}
		if err := s.Send(t.Context(), "", event()); actions.CodeOf(err) != actions.Unavailable {
			t.Errorf("a closed sink: got %v, want Unavailable", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := &place{answers: repeat(9, answer{status: hang})}
		s := newSink(t, Config{URL: own, Transport: p})
		sent := make(chan error, 1)
		go func() { sent <- s.Send(t.Context(), "", event()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Close(ctx); actions.CodeOf(err) != actions.Unavailable {
			t.Errorf("got %v, want that an event was given up", err)
		}
		if err := <-sent; actions.CodeOf(err) != actions.Unavailable {
			t.Errorf("what was given up: got %v, want Unavailable", err)
		}
	})
}

func TestNamed(t *testing.T) {
	mine, theirs := &place{}, &place{}
	s := newSink(t, Config{
		URL: own, Transport: mine, Overrides: `{"extensions":{"cluster":"1"}}`, Token: writeToken(t, "secret"),
		Named: func(url string) (http.RoundTripper, error) {
			if url != "https://caller.example/" {
				return nil, actions.Errorf(actions.Forbidden, "%s is not allowed", url)
			}
			return theirs, nil
		},
	})
	if err := s.Send(t.Context(), "https://caller.example/", event()); err != nil || len(theirs.requests) != 1 {
		t.Fatalf("got %v, %d requests", err, len(theirs.requests))
	}
	if h := theirs.requests[0].Header; h.Get("Authorization") != "" || h.Get("Ce-Cluster") != "" {
		t.Errorf("got %v, want neither the sink's token nor its extensions", h)
	}
	if err := s.Send(t.Context(), own, event()); err != nil || len(mine.requests) != 1 {
		t.Fatalf("got %v, %d requests", err, len(mine.requests))
	}
	if h := mine.requests[0].Header; h.Get("Authorization") != "Bearer secret" || h.Get("Ce-Cluster") != "1" {
		t.Errorf("the sink by its name: got %v, want its token and extensions", h)
	}
	if err := s.MaySend("https://caller.example/"); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	for _, err := range []error{s.MaySend("http://10.0.0.1/"), s.Send(t.Context(), "http://10.0.0.1/", event())} {
		if actions.CodeOf(err) != actions.Forbidden {
			t.Errorf("got %v, want Forbidden", err)
		}
	}
	none := newSink(t, Config{})
	if none.Configured() || !s.Configured() {
		t.Error("got a sink that is none, or none that is one")
	}
	if err := none.MaySend(""); actions.CodeOf(err) != actions.Invalid {
		t.Errorf("no sink: got %v, want Invalid", err)
	}
	if err := none.MaySend("https://caller.example/"); actions.CodeOf(err) != actions.Forbidden {
		t.Errorf("nobody may name one: got %v, want Forbidden", err)
	}
}

// What the transport of a named place refuses when it connects is not tried again.
func TestRefusedAddress(t *testing.T) {
	refuse := transportFunc(func(req *http.Request) (*http.Response, error) {
		_ = req.Body.Close()
		return nil, actions.Errorf(actions.Forbidden, "the address is not public")
	})
	s := newSink(t, Config{Named: func(string) (http.RoundTripper, error) { return refuse, nil }})
	if err := s.Send(t.Context(), "https://caller.example/", event()); actions.CodeOf(err) != actions.Forbidden {
		t.Errorf("got %v, want Forbidden", err)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A transport that lets go of the data late is waited for.
func TestBytesAreTheCallersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := transportFunc(func(req *http.Request) (*http.Response, error) {
			go func() {
				<-req.Context().Done()
				time.Sleep(5 * time.Second)
				_ = req.Body.Close()
			}()
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		began := time.Now()
		if err := newSink(t, Config{URL: own, Transport: late}).Send(t.Context(), "", event()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("got back after %s, want 5s, when nobody reads any longer", took)
		}
	})
}

// What a header cannot hold goes in structured mode, also when it is tried again.
func TestStructured(t *testing.T) {
	for name, change := range map[string]func(e *cloudevent.Event){
		"attributes": func(e *cloudevent.Event) { e.Subject = strings.Repeat("é", 4096) },
		"an event":   func(e *cloudevent.Event) { e.DataContentType = cloudevent.StructuredType },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &place{answers: repeat(1, answer{status: 503})}
				e := event()
				e.SpecVersion = cloudevent.V1
				change(e)
				if err := newSink(t, Config{URL: own, Transport: p}).Send(t.Context(), "", e); err != nil || len(p.requests) != 2 {
					t.Fatalf("got %v and %d requests", err, len(p.requests))
				}
				for i, req := range p.requests {
					got, err := cloudevent.ParseStructured([]byte(p.bodies[i]))
					if diff := cmp.Diff(*e, got); err != nil || diff != "" || req.Header.Get("Content-Type") != cloudevent.StructuredType ||
						req.Header.Get("Ce-Id") != "" || req.ContentLength != int64(len(p.bodies[i])) {
						t.Errorf("got %v, %v\n%s", req.Header, err, diff)
					}
				}
			})
		})
	}
}

func TestInvalidEvent(t *testing.T) {
	p := &place{}
	if err := newSink(t, Config{URL: own, Transport: p}).Send(t.Context(), "", &cloudevent.Event{ID: "1"}); actions.CodeOf(err) != actions.Invalid || len(p.requests) != 0 {
		t.Errorf("got %v, %d requests, want Invalid and none", err, len(p.requests))
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"a URL", Config{URL: "sink"}, "the sink"},
		{"a scheme", Config{URL: "ftp://sink/"}, "the sink"},
		{"a dead-letter sink", Config{DeadLetter: "http://"}, "the dead-letter sink"},
		{"overrides that are no JSON", Config{Overrides: "{"}, "K_CE_OVERRIDES"},
		{"an override with a bad name", Config{Overrides: `{"extensions":{"My-Ext":"1"}}`}, "my-ext"},
		{"an override of an attribute", Config{Overrides: `{"extensions":{"subject":"1"}}`}, "subject"},
		{"certificates", Config{CACerts: "none"}, "K_CA_CERTS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that names %s", err, test.want)
			}
		})
	}
}
