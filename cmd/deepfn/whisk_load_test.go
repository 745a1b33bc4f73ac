package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions/whisk"
)

// echoToken prints its token to both streams and answers it.
const echoToken = `
import sys

def main(args):
    token = args["token"]
    print("out", token)
    print("err", token, file=sys.stderr)
    return {"token": token, "length": len(args["filler"])}
`

// whiskCallers is how many call at the same time.
const whiskCallers = 16

// activationsPerCaller is how many activations each of them has in TestWhiskLoad:
// DEEPFN_TEST_ACTIVATIONS, by default 100.
func activationsPerCaller(t *testing.T) int {
	t.Helper()
	text := os.Getenv("DEEPFN_TEST_ACTIVATIONS")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DEEPFN_TEST_ACTIVATIONS=%s: want a number", text)
	}
	return n
}

// A whiskLoad is callers of an action through OpenWhisk's API and what they were told.
type whiskLoad struct {
	t       *testing.T
	base    string
	client  *http.Client
	killing atomic.Bool // the server may be dead

	mu           sync.Mutex             // guards everything below
	acknowledged map[string]acknowledge // by the id of the activation
	took         []time.Duration
}

// An acknowledge is what an answer has promised.
type acknowledge struct {
	token string
	ended bool // the answer was the result
}

// invoke invokes the action once. Every tenth does not wait for the result.
func (l *whiskLoad) invoke(caller, n int) (ok bool) {
	token := fmt.Sprintf("%d-%d", caller, n)
	blocking := n%10 != 0
	filler := strings.Repeat("x", (caller*131+n*17)%3000)
	began := time.Now()
	r, err := l.call(http.MethodPost, fmt.Sprintf("actions/echo?blocking=%t&result=false", blocking),
		fmt.Sprintf(`{"token":%q,"filler":%q}`, token, filler))
	took := time.Since(began)
	if err != nil {
		if !l.killing.Load() {
			l.t.Errorf("%s: %v", token, err)
		}
		return false
	}
	var a whisk.Activation
	switch bad := json.Unmarshal([]byte(r.body), &a); {
	case bad != nil || a.ID == "" || r.status != map[bool]int{true: 200, false: 202}[blocking]:
		l.t.Errorf("%s: got %d %.300s", token, r.status, r.body)
		return false
	case blocking && string(a.Response.Result) != fmt.Sprintf(`{"token":%q,"length":%d}`, token, len(filler)) &&
		plainJSON(l.t, string(a.Response.Result)) != fmt.Sprintf(`{"length":%d,"token":%q}`, len(filler), token):
		l.t.Errorf("%s: got the answer %s", token, a.Response.Result)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, known := l.acknowledged[a.ID]; known {
		l.t.Errorf("%s and %s have the id %s", token, before.token, a.ID)
	}
	l.acknowledged[a.ID] = acknowledge{token, blocking}
	l.took = append(l.took, took)
	return true
}

// call makes a request below the caller's namespace.
func (l *whiskLoad) call(method, path, body string) (reply, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute) // only to find what hangs
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, l.base+"/api/v1/namespaces/_/"+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	user, key, _ := strings.Cut(whisk.GuestAuth, ":")
	req.SetBasicAuth(user, key)
	req.Header.Set("Content-Type", jsonMedia)
	resp, err := l.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(data)}, err
}

// listed returns all activations of the action with their logs, read in pages.
func (l *whiskLoad) listed() map[string]whisk.Activation {
	found := map[string]whisk.Activation{}
	for skip := 0; ; skip += whisk.MaxLimit {
		r, err := l.call(http.MethodGet, fmt.Sprintf("activations?name=echo&docs=true&limit=%d&skip=%d", whisk.MaxLimit, skip), "")
		var page []whisk.Activation
		if bad := json.Unmarshal([]byte(r.body), &page); err != nil || bad != nil || r.status != 200 {
			l.t.Fatalf("activations from %d: %d %.300s, %v, %v", skip, r.status, r.body, err, bad)
		}
		for _, a := range page {
			if _, twice := found[a.ID]; twice {
				l.t.Errorf("%s is listed twice", a.ID)
			}
			found[a.ID] = a
		}
		if len(page) < whisk.MaxLimit {
			return found
		}
	}
}

// settle waits until what was accepted and had not begun before the kill has run. Until
// then the list grows while it is read in pages.
func (l *whiskLoad) settle() {
	l.t.Helper()
	for id, ack := range l.acknowledged {
		if ack.ended {
			continue
		}
		eventually(l.t, "there: "+ack.token, func() bool {
			r, err := l.call(http.MethodGet, "activations/"+id, "")
			return err == nil && r.status == 200
		})
	}
}

// check compares what is listed with what was acknowledged. After a kill an activation
// that was only accepted may have been under way.
func (l *whiskLoad) check(killed bool) {
	l.t.Helper()
	found := l.listed()
	interrupted := 0
	for id, ack := range l.acknowledged {
		a, ok := found[id]
		switch {
		case !ok:
			l.t.Errorf("%s, %s: it was acknowledged and is not listed", id, ack.token)
		case killed && !ack.ended && a.Response.Code == whisk.WhiskError && len(a.Logs) == 0:
			interrupted++
		default:
			l.checkOne(a, ack.token)
		}
	}
	if !killed && len(found) != len(l.acknowledged) {
		l.t.Errorf("%d are listed, %d were acknowledged", len(found), len(l.acknowledged))
	}
	for id, a := range found { // also those whose answers nobody got
		if _, known := l.acknowledged[id]; !known && a.Response.Code == whisk.Success {
			var result struct{ Token string }
			_ = json.Unmarshal(a.Response.Result, &result)
			l.checkOne(a, result.Token)
		}
	}
	l.t.Logf("%d acknowledged, %d listed, %d interrupted", len(l.acknowledged), len(found), interrupted)
}

// checkOne sees that an activation has the result and the lines of its token, and no others.
func (l *whiskLoad) checkOne(a whisk.Activation, token string) {
	var result struct{ Token string }
	err := json.Unmarshal(a.Response.Result, &result)
	if err != nil || a.Response.Code != whisk.Success || result.Token != token {
		l.t.Errorf("%s: the record of %s is %d %s", a.ID, token, a.Response.Code, a.Response.Result)
	}
	var lines []string
	for _, line := range a.Logs {
		_, line, _ = strings.Cut(line, " ")
		lines = append(lines, strings.TrimSpace(line))
	}
	slices.Sort(lines) // the two streams have no order
	if want := []string{"stderr: err " + token, "stdout: out " + token}; !slices.Equal(lines, want) {
		l.t.Errorf("%s: the logs of %s are %q", a.ID, token, a.Logs)
	}
}

// sample reads some records one by one, as wsk does.
func (l *whiskLoad) sample() {
	left := 50
	for id, ack := range l.acknowledged {
		if left--; left < 0 {
			return
		}
		if !ack.ended {
			continue
		}
		for path, want := range map[string]string{"": ack.token, "/result": ack.token, "/logs": "out " + ack.token} {
			r, err := l.call(http.MethodGet, "activations/"+id+path, "")
			if err != nil || r.status != 200 || !strings.Contains(r.body, want) {
				l.t.Errorf("%s%s: got %d %.300s, %v", id, path, r.status, r.body, err)
			}
		}
	}
}

// createEcho creates the action.
func (p *process) createEcho() {
	p.t.Helper()
	code, err := json.Marshal(echoToken)
	if err != nil {
		p.t.Fatal(err)
	}
	if r := p.own(http.MethodPut, "actions/echo", `{"exec":{"kind":"python:3","code":`+string(code)+`}}`); r.status != 200 {
		p.t.Fatalf("the action: got %d %s", r.status, r.body)
	}
}

// run has all callers invoke the action n times, or until an answer is missing.
func (l *whiskLoad) run(first, n int) *sync.WaitGroup {
	var callers sync.WaitGroup
	for caller := range whiskCallers {
		callers.Go(func() {
			for i := first; i < first+n && l.invoke(caller, i); i++ {
			}
		})
	}
	return &callers
}

// TestWhiskLoad invokes an action through OpenWhisk's API from many callers: each has its
// own answer, each activation its own record and logs. Then the server is killed at work,
// and a new one knows of every activation that was acknowledged.
func TestWhiskLoad(t *testing.T) {
	each := activationsPerCaller(t)
	p := serveWhisk(t, "--instances", "2", "--queue-depth", "64")
	p.createEcho()
	l := &whiskLoad{
		t: t, base: p.base, acknowledged: map[string]acknowledge{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: whiskCallers}},
	}
	began := time.Now()
	l.run(0, each).Wait()
	took := time.Since(began)
	eventually(t, "all ended", func() bool {
		r, err := l.call(http.MethodGet, "activations?name=echo&count=true", "")
		var counted struct{ Activations int }
		return err == nil && json.Unmarshal([]byte(r.body), &counted) == nil && counted.Activations == len(l.acknowledged)
	})
	if len(l.acknowledged) != each*whiskCallers {
		t.Errorf("%d were acknowledged, want %d", len(l.acknowledged), each*whiskCallers)
	}
	slices.Sort(l.took)
	info, err := os.Stat(filepath.Join(p.data, "whisk.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d activations in %s: %.0f/s, half of them within %s, 99 %% within %s; the file has %d KiB", len(l.acknowledged), took.Round(time.Millisecond),
		float64(len(l.acknowledged))/took.Seconds(), l.took[len(l.took)/2], l.took[len(l.took)*99/100], info.Size()>>10)
	l.check(false)
	l.sample()

	enough := len(l.acknowledged) + min(500, each)
	callers := l.run(each, 1_000_000)
	eventually(t, "some more", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acknowledged) >= enough
	})
	l.killing.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.ended
	callers.Wait()

	again := &process{t: t, ended: make(chan struct{}), temp: p.temp, data: p.data, env: p.env}
	l.base = again.serve(&again.stdout, "--python", current(t)).base
	l.killing.Store(false)
	l.settle()
	l.check(true)
	l.sample()
	if !l.invoke(0, 5_000_000) { // the action is there too
		t.Error("the action does not answer after the restart")
	}
}
