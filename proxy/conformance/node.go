package conformance

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

// nodeCases are those of NodeJsConcurrentTests of apache/openwhisk-runtime-nodejs.
func nodeCases() []testCase {
	const suite = "node"
	kinds := []Kind{Node}
	return []testCase{
		{
			number: "#68", suite: suite, name: "128 runs at once, each with its own answer", kinds: kinds,
			env: map[string]string{"__OW_ALLOW_CONCURRENT": "true"}, run: manyAtOnce,
		},
		{number: "#69", suite: suite, name: "two runs at once without __OW_ALLOW_CONCURRENT", kinds: kinds, run: oneAtOnce},
	}
}

// gather is an action whose runs wait for each other, so that they are at once.
func gather(n int) action {
	return action{node: fmt.Sprintf(`let waiting = [];
function main(args) {
  console.log("interleave me");
  return new Promise((resolve) => {
    waiting.push(() => resolve({ args }));
    if (waiting.length === %d) waiting.forEach((go) => go());
  });
}
`, n)}
}

func manyAtOnce(t *trial) {
	const n = 128
	t.load(gather(n))
	args := func(i int) map[string]any {
		return map[string]any{fmt.Sprintf("arg%d", i): fmt.Sprintf("value%d", i)}
	}
	replies := t.together(n, func(i int) (path, text string) { return "/run", runBody(args(i), nil) })
	for i := range replies {
		t.whole(&replies[i])
		t.want(&replies[i], map[string]any{"args": args(i)})
	}
	if p, known := t.sentinels(n); known && strings.Count(p.stdout, "interleave me") != n {
		t.failf("stdout has %d lines of the runs, want %d", strings.Count(p.stdout, "interleave me"), n)
	}
}

func oneAtOnce(t *trial) {
	const busy = "System not ready, status is running."
	t.load(action{node: "function main(args) { return new Promise((done) => setTimeout(() => done({ args }), 1000)); }\n"})
	replies := t.together(2, func(i int) (path, text string) { return "/run", runBody(map[string]any{"arg": i}, nil) })
	statuses := map[int]int{}
	for i := range replies {
		r := &replies[i]
		t.whole(r)
		statuses[r.status]++
		if r.status == http.StatusForbidden {
			t.wantJSON(r, `{"error":"`+busy+`"}`)
		}
	}
	if !reflect.DeepEqual(statuses, map[int]int{http.StatusOK: 1, http.StatusForbidden: 1}) {
		t.failf("got %s and %s, want one 200 and one 403", replies[0].got(), replies[1].got())
	}
	t.logged(1, "", "Internal system error: "+busy)
}
