package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A phase says when a case can run against one container that is not restarted.
type phase int

const (
	alone  phase = iota // never: the case needs a container of its own
	before              // before any /init, and it initialises nothing
	after               // after an /init with an echo, which the case asks for by loadEcho
)

// A testCase is one thing that a container must do.
type testCase struct {
	number string // "#5", "G3"
	suite  string
	name   string
	phase  phase
	never  string              // why it applies to no container, seen from outside
	when   func(traits) string // why it does not apply to this container; "" when it does
	kinds  []Kind              // the kinds of code it is for; empty means all but None
	nocode bool                // it needs no code, and runs once
	env    map[string]string   // of the container
	run    func(*trial)
}

// traits are what is known of a container before the cases run.
type traits struct {
	abilities
	kinds []Kind
	stub  bool // it has an action before any /init
}

// takes says whether the container takes one of these kinds of code.
//
// Before that is known, it may.
func (t *traits) takes(kinds ...Kind) bool {
	return len(t.kinds) == 0 || slices.ContainsFunc(kinds, func(k Kind) bool { return slices.Contains(t.kinds, k) })
}

// A runner runs the cases.
type runner struct {
	cfg    Config
	target target
	traits traits
	fault  error // why the kinds of code could not be tried, of the only container

	mu     sync.Mutex // guards what follows
	shared container  // the only one, when there are no fresh ones
	loaded bool       // with an echo
}

// release closes the shared container.
func (r *runner) release() {
	if r.shared != nil {
		r.shared.close()
	}
}

// runAll runs the cases that are asked for, and reports them in their order.
func (r *runner) runAll(ctx context.Context) []Result {
	cases := slices.DeleteFunc(allCases(), func(c testCase) bool { return !r.cfg.matches(c) })
	parallel := 1
	if r.traits.parallel && r.traits.fresh {
		parallel = max(1, r.cfg.Parallel)
	}
	results := make([]Result, len(cases))
	done := make([]chan struct{}, len(cases))
	tokens := make(chan struct{}, parallel)
	order := r.order(cases)
	for i := range cases {
		done[i] = make(chan struct{})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, i := range order {
			tokens <- struct{}{}
			if !r.traits.fresh && cases[i].phase != before && ctx.Err() == nil {
				r.fault = r.probeKinds(ctx) // with the only /init there will be
			}
			wg.Go(func() {
				results[i] = r.runCase(ctx, &cases[i])
				close(done[i])
				<-tokens
			})
		}
	})
	for i := range cases {
		<-done[i]
		if r.cfg.Progress != nil {
			r.cfg.Progress(results[i])
		}
	}
	wg.Wait()
	return results
}

// order is the order in which the cases run: with one container only, first those that
// leave it as it was started.
func (r *runner) order(cases []testCase) []int {
	order := make([]int, len(cases))
	for i := range order {
		order[i] = i
	}
	if !r.traits.fresh {
		slices.SortStableFunc(order, func(a, b int) int {
			rank := func(c *testCase) int { return map[phase]int{before: 0, after: 1, alone: 2}[c.phase] }
			return rank(&cases[a]) - rank(&cases[b])
		})
	}
	return order
}

// interrupted is why a case does not apply that did not run, or not to its end.
const interrupted = "interrupted"

// runCase runs a case once for each kind of code that it and the container have.
func (r *runner) runCase(ctx context.Context, c *testCase) Result {
	began := time.Now()
	result := Result{Number: c.number, Suite: c.suite, Name: c.name, Outcome: NotApplicable}
	if ctx.Err() != nil {
		result.Reason = interrupted
		return result
	}
	kinds, reason := r.applies(c)
	if reason != "" {
		result.Reason = reason
		return result
	}
	var failed, skipped []string
	for _, kind := range kinds {
		t := r.try(ctx, c, kind)
		if ctx.Err() != nil { // what it found is what came of that
			result.Outcome, result.Reason = NotApplicable, interrupted
			return result
		}
		for _, note := range t.notes {
			if !slices.Contains(result.Notes, note) {
				result.Notes = append(result.Notes, note)
			}
		}
		prefix := ""
		if kind != None && len(kinds) > 1 {
			prefix = string(kind) + ": "
		}
		switch {
		case t.skipped != "":
			skipped = append(skipped, prefix+t.skipped)
			continue
		case t.failure != "":
			failed = append(failed, prefix+t.failure)
		}
		if kind != None {
			result.Kinds = append(result.Kinds, kind)
		}
		if result.Outcome != Failed {
			result.Outcome = Passed
		}
		if t.failure != "" {
			result.Outcome = Failed
		}
	}
	result.Reason = strings.Join(failed, "; ")
	if result.Outcome == NotApplicable {
		result.Reason = strings.Join(skipped, "; ")
	}
	result.Took = time.Since(began)
	return result
}

// applies returns the kinds that a case runs with, or why it does not apply.
func (r *runner) applies(c *testCase) (kinds []Kind, reason string) {
	if c.never != "" {
		return nil, c.never
	}
	if c.when != nil {
		if reason := c.when(r.traits); reason != "" {
			return nil, reason
		}
	}
	if !r.traits.fresh && c.phase == alone {
		return nil, "it needs a container of its own, and the one that is there is not restarted"
	}
	if len(c.env) > 0 && !r.traits.env {
		return nil, "it needs variables in the container's environment, which somebody else started"
	}
	if c.nocode {
		return []Kind{None}, ""
	}
	for _, k := range r.traits.kinds {
		if k != None && (len(c.kinds) == 0 || slices.Contains(c.kinds, k)) {
			kinds = append(kinds, k)
		}
	}
	if !r.traits.fresh && len(kinds) > 1 {
		kinds = kinds[:1] // of the only /init
	}
	switch {
	case len(kinds) > 0:
		return kinds, ""
	case len(c.kinds) == 0:
		return nil, "the container takes no code"
	}
	return nil, fmt.Sprintf("it is for containers that take code of the kind %s", joined(c.kinds))
}

func joined(kinds []Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, " or ")
}

// try runs a case with one kind of code in a fresh container, or in the shared one.
func (r *runner) try(ctx context.Context, c *testCase, kind Kind) *trial {
	t := &trial{ctx: ctx, runner: r, kind: kind, shared: !r.traits.fresh}
	var err error
	if t.cont, err = r.container(ctx, c.env); err != nil {
		t.failure = "no container: " + err.Error()
		return t
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(t)
	}()
	<-done
	if !t.shared {
		t.cont.close()
	}
	return t
}

// container starts a container, unless there is only one.
func (r *runner) container(ctx context.Context, env map[string]string) (container, error) {
	if r.target.has().fresh {
		return r.target.start(ctx, platformEnv(env))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shared == nil {
		cont, err := r.target.start(ctx, nil)
		if err != nil {
			return nil, err
		}
		r.shared = cont
	}
	return r.shared, nil
}

// platformEnv is what OpenWhisk gives to every container when it starts it, and more.
func platformEnv(more map[string]string) map[string]string {
	env := map[string]string{"__OW_API_HOST": "http://127.0.0.1:3233"}
	maps.Copy(env, more)
	return env
}

// shareEcho initialises the only container with an echo, once.
func (r *runner) shareEcho(t *trial) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded {
		return
	}
	t.load(echo())
	r.loaded = true
}

// probe finds out what the container takes, unless it was said. The only container there
// is cannot be asked before the cases have run that need it as it was started.
func (r *runner) probe(ctx context.Context) error {
	r.traits = traits{abilities: r.target.has(), kinds: r.cfg.Kinds, stub: r.cfg.Stub}
	cont, err := r.container(ctx, nil)
	if err != nil {
		return err
	}
	idle := exchange(ctx, http.MethodPost, cont.base()+"/run", []byte("{}"), r.cfg.Timeout)
	r.traits.stub = r.traits.stub || idle.err == nil && idle.status == http.StatusOK
	r.traits.parallel = r.target.has().parallel // known since the first start
	if r.traits.fresh {
		cont.close()
		return r.probeKinds(ctx)
	}
	return ctx.Err()
}

// probeKinds gives containers an echo of each kind and looks which of them echo.
func (r *runner) probeKinds(ctx context.Context) error {
	if len(r.traits.kinds) > 0 {
		return nil
	}
	var errs error
	for _, kind := range Kinds() {
		taken, err := r.probeKind(ctx, kind)
		errs = errors.Join(errs, err)
		if taken {
			r.traits.kinds = append(r.traits.kinds, kind)
			if !r.traits.fresh {
				break
			}
		}
	}
	if len(r.traits.kinds) == 0 {
		r.traits.kinds = []Kind{None}
	}
	return errors.Join(errs, ctx.Err())
}

// probeKind says whether the container takes an echo of one kind. With one container
// only, a failed /init leaves it for the next kind.
func (r *runner) probeKind(ctx context.Context, kind Kind) (bool, error) {
	code, ok := echo().code(kind, r.cfg.Interpreter)
	if !ok {
		return false, nil
	}
	cont, err := r.container(ctx, nil)
	if err != nil {
		return false, err
	}
	if r.traits.fresh {
		defer cont.close()
	}
	got := exchange(ctx, http.MethodPost, cont.base()+"/init", []byte(initBody(code, "main", nil)), r.cfg.Timeout)
	if got.err != nil || got.status != http.StatusOK {
		return false, nil
	}
	const body = `{"value":{"conformance":"echo"}}`
	got = exchange(ctx, http.MethodPost, cont.base()+"/run", []byte(body), r.cfg.Timeout)
	taken := got.err == nil && got.status == http.StatusOK && got.object()["conformance"] == "echo"
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loaded = r.loaded || taken
	return taken, nil
}
