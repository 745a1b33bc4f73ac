package conformance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// sentinel ends the log of an activation, on both streams.
const sentinel = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"

// A trial is one run of a case against a container. Its methods end the goroutine that
// runs the case when something is not as it must be.
type trial struct {
	ctx    context.Context //nolint:containedctx // one run is one context, as in testing.T
	runner *runner
	kind   Kind
	cont   container
	shared bool // the container stays, and is initialised already or will be with an echo

	failure, skipped string
	notes            []string
}

// failf ends the trial: the container does not do what it must.
func (t *trial) failf(format string, args ...any) {
	t.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// skipf ends the trial: the case does not apply to this container.
func (t *trial) skipf(format string, args ...any) {
	t.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// note says what could not be checked, once.
func (t *trial) note(text string) {
	if !slices.Contains(t.notes, text) {
		t.notes = append(t.notes, text)
	}
}

// fresh replaces the container by a new one.
func (t *trial) fresh(env map[string]string) {
	if t.shared {
		t.skipf("it needs a second container, and there is only one")
	}
	t.cont.close()
	t.cont = &remote{} // nothing to close if the start fails
	cont, err := t.runner.target.start(t.ctx, platformEnv(env))
	if err != nil {
		t.failf("another container did not start: %v", err)
	}
	t.cont = cont
}

// send sends a request and returns what came back, whatever that is.
func (t *trial) send(method, path string, body []byte, timeout time.Duration) reply {
	return exchange(t.ctx, method, t.cont.base()+path, body, timeout)
}

// post sends a body, and fails without a whole answer that says its length.
func (t *trial) post(path, body string) reply {
	r := t.send(http.MethodPost, path, []byte(body), t.runner.cfg.Timeout)
	t.whole(&r)
	return r
}

// whole fails for an answer that the platform would not take for one.
func (t *trial) whole(r *reply) {
	if problem := r.problem(); problem != "" {
		t.failf("%s: %s, want an answer with a Content-Length", r.what, problem)
	}
}

// isBase64 is how OpenWhisk's controller says what is binary.
func isBase64(code string) bool {
	code = strings.TrimSpace(code)
	return len(code) > 0 && len(code)%4 == 0 &&
		regexp.MustCompile(`^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`).MatchString(code)
}

// initBody is the body of an /init as OpenWhisk's own suites send it.
func initBody(code any, main string, env any) string {
	text, _ := code.(string)
	return encode(map[string]any{"value": map[string]any{
		"name": "conformance", "main": main, "code": code, "binary": isBase64(text), "env": env,
	}})
}

// init gives code to the container. A nil map is a null.
func (t *trial) init(code, main string, env map[string]any) reply {
	var vars any
	if env != nil {
		vars = env
	}
	return t.post("/init", initBody(code, main, vars))
}

// load initialises the container with the case's action, which must succeed.
func (t *trial) load(a action) {
	t.loadWith(a, nil)
}

func (t *trial) loadWith(a action, env map[string]any) {
	if a.main == "" {
		a.main = "main"
	}
	r := t.init(t.code(a), a.main, env)
	t.wantStatus(&r, http.StatusOK)
}

// code is the action's code for the trial's kind.
func (t *trial) code(a action) string {
	code, ok := a.code(t.kind, t.runner.cfg.Interpreter)
	if !ok {
		t.skipf("there is no code of this case for the kind %s", t.kind)
	}
	return code
}

// loadEcho initialises the container with an action that returns its arguments. The one
// container that is not restarted is initialised once.
func (t *trial) loadEcho() {
	if t.shared {
		t.runner.shareEcho(t)
		return
	}
	t.load(echo())
}

// runBody is the body of a /run.
func runBody(value any, extra map[string]any) string {
	body := map[string]any{"value": value}
	maps.Copy(body, extra)
	return encode(body)
}

// run invokes the action.
func (t *trial) run(value any, extra ...map[string]any) reply {
	var more map[string]any
	if len(extra) > 0 {
		more = extra[0]
	}
	return t.post("/run", runBody(value, more))
}

// want fails unless the answer is 200 with this value, compared as JSON.
func (t *trial) want(r *reply, value any) {
	if want := decode([]byte(encode(value))); r.status != http.StatusOK || !reflect.DeepEqual(decode(r.body), want) {
		t.failf("%s: got %s, want 200 %s", r.what, r.got(), short([]byte(encode(value))))
	}
}

// wantStatus fails unless the answer has one of these statuses.
func (t *trial) wantStatus(r *reply, statuses ...int) {
	if !slices.Contains(statuses, r.status) {
		t.failf("%s: got %s, want %s", r.what, r.got(), strings.Trim(strings.ReplaceAll(fmt.Sprint(statuses), " ", " or "), "[]"))
	}
}

// wantRefused fails when the answer is 200.
func (t *trial) wantRefused(r *reply) {
	if r.status == http.StatusOK {
		t.failf("%s: got %s, want another status than 200", r.what, r.got())
	}
}

// wantError fails unless the answer is an object with the member error.
func (t *trial) wantError(r *reply) {
	if _, there := r.object()["error"]; !there {
		t.failf("%s: got %s, want an object with the member error", r.what, r.got())
	}
}

// wantJSON fails unless the body is one of these documents, compared as JSON: that is how
// OpenWhisk's own suites compare what a container answers.
func (t *trial) wantJSON(r *reply, documents ...string) {
	got := decode(r.body)
	if !slices.ContainsFunc(documents, func(want string) bool { return reflect.DeepEqual(got, decode([]byte(want))) }) {
		t.failf("%s: got %s, want the body %s", r.what, r.got(), strings.Join(documents, " or "))
	}
}

// wantText fails unless the body is one of the texts, byte for byte, but for the end of
// the last line.
func (t *trial) wantText(r *reply, texts ...string) {
	if !slices.Contains(texts, strings.TrimRight(string(r.body), "\r\n")) {
		t.failf("%s: got %s, want the body %s", r.what, r.got(), strings.Join(texts, " or "))
	}
}

// printed is what a container has printed, without sentinels.
type printed struct{ stdout, stderr string }

// sentinels looks at what the container has printed settle after the last answer, which is
// when OpenWhisk's suites look, and fails when n sentinels are not complete on each stream,
// or there are more. It returns what else was printed, and false when that is unknown.
func (t *trial) sentinels(n int) (printed, bool) {
	if !t.runner.target.has().logs {
		t.note("what the container printed was not checked: its logs are unknown")
		return printed{}, false
	}
	stdout, stderr := t.settled()
	for name, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
		if found := strings.Count(text, sentinel); found != n {
			t.failf("%s has %d sentinels %s after the answer, want %d%s; it is: %s", name, found, settle, n, t.lateness(n), short([]byte(text)))
		}
	}
	strip := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, sentinel, "")) }
	return printed{strip(stdout), strip(stderr)}, true
}

// settled is what was printed a while after the last answer: it comes on a way of its own.
func (t *trial) settled() (stdout, stderr string) {
	time.Sleep(settle)
	return t.cont.logs()
}

// settle is how long after the last answer what was printed is looked at.
const settle = 100 * time.Millisecond

// lateness says that sentinels which are missing came later, if they do within a while.
func (t *trial) lateness(n int) string {
	const patience = 2 * time.Second
	began := time.Now().Add(-settle)
	for time.Since(began) < patience {
		stdout, stderr := t.cont.logs()
		if out, errs := strings.Count(stdout, sentinel), strings.Count(stderr, sentinel); out == n && errs == n {
			if late := time.Since(began); late > settle+10*time.Millisecond {
				return fmt.Sprintf(" (they were complete %s after it)", late.Round(10*time.Millisecond))
			}
			return ""
		} else if out > n || errs > n {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

// quiet is sentinels, and nothing else.
func (t *trial) quiet(n int) {
	p, known := t.sentinels(n)
	if !known {
		return
	}
	if p.stdout != "" {
		t.failf("stdout has %s, want nothing but sentinels", short([]byte(p.stdout)))
	}
	if p.stderr != "" {
		t.failf("stderr has %s, want nothing but sentinels", short([]byte(p.stderr)))
	}
}

// logged is sentinels, and these texts on the streams.
func (t *trial) logged(n int, stdout, stderr string) {
	p, known := t.sentinels(n)
	if !known {
		return
	}
	if !strings.Contains(p.stdout, stdout) {
		t.failf("stdout has %q, want %q in it", short([]byte(p.stdout)), stdout)
	}
	if !strings.Contains(p.stderr, stderr) {
		t.failf("stderr has %q, want %q in it", short([]byte(p.stderr)), stderr)
	}
}

// together sends n requests at once and returns what came back for each.
func (t *trial) together(n int, body func(i int) (path, text string)) []reply {
	replies := make([]reply, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			path, text := body(i)
			replies[i] = t.send(http.MethodPost, path, []byte(text), t.runner.cfg.Timeout)
		})
	}
	wg.Wait()
	return replies
}

// absent fails when a file of this machine is there, and removes it.
func (t *trial) absent(path string) {
	if !t.runner.target.has().files {
		return
	}
	if _, err := os.Lstat(path); err == nil {
		_ = os.Remove(path) // it is reported
		t.failf("the archive wrote a file outside of its folder")
	}
}
