package benchmarks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions/whisk"
)

// BenchmarkActivations is what it costs that an activation has an id, a record and logs on
// the disk before it is answered: a Python function that prints a line, invoked through
// OpenWhisk's API by 1 and by 16 callers, in turn with the same function invoked at /run,
// which keeps nothing.
func BenchmarkActivations(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchmarkActivations(b, callers) })
	}
}

func benchmarkActivations(b *testing.B, callers int) {
	b.Helper()
	const source = "def main(args):\n    print('hello')\n    return {'d': args['d']}\n"
	base, _ := servePython(b, source)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	code, err := json.Marshal(source)
	if err != nil {
		b.Fatal(err)
	}
	api := base + "/api/v1/namespaces/_/actions/hello"
	exchange(b, client, http.MethodPut, api, `{"exec":{"kind":"python:3","code":`+string(code)+`}}`, "hello")

	arguments := fmt.Sprintf(`{"d":%q}`, strings.Repeat("x", 1<<10))
	sides := []side{
		{"activations", func() {
			exchange(b, client, http.MethodPost, api+"?blocking=true&result=true", arguments, "xxx")
		}, nil},
		{"runs", func() { exchange(b, client, http.MethodPost, base+"/run", `{"value":`+arguments+`}`, "xxx") }, nil},
	}
	for i := range sides {
		sides[i].round(callers) // and the first of each is done
		sides[i].rounds = nil
	}
	for b.Loop() {
		for i := range sides {
			sides[i].round(callers)
		}
	}
	for _, s := range sides {
		b.ReportMetric(float64(callers*perRound)/median(s.rounds).Seconds(), s.name+"/s")
	}
	b.ReportMetric(float64(median(sides[0].rounds))/float64(median(sides[1].rounds)), "times-the-time")
}

// A side is one of two ways to invoke the function.
type side struct {
	name   string
	once   func()
	rounds []time.Duration
}

// perRound is how many requests a caller sends in a round.
const perRound = 20

// round has each caller send its requests.
func (s *side) round(callers int) {
	began := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range perRound {
				s.once()
			}
		})
	}
	wg.Wait()
	s.rounds = append(s.rounds, time.Since(began))
}

// exchange sends a request and looks for a text in the answer.
func exchange(b *testing.B, client *http.Client, method, url, body, want string) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, url, strings.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	user, key, _ := strings.Cut(whisk.GuestAuth, ":")
	req.SetBasicAuth(user, key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(want)) {
		b.Errorf("%s: got %d %.200s, %v", url, resp.StatusCode, answer, err)
	}
}
