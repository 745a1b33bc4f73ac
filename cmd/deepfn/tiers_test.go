package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/deepfn/deepfn/runtime/gpu/gputest"
)

// whoModule answers with its process and what it was asked to do between the requests.
const whoModule = `import os

done = []

def predict(n: int = 0):
    return {"pid": os.getpid(), "done": done, "devices": os.environ["CUDA_VISIBLE_DEVICES"]}
`

// hooksModule is one that can be suspended by itself.
const hooksModule = whoModule + `
def suspend():
    done.append("suspend")
    return 7 << 30

def resume():
    done.append("resume")
`

// gpuServer starts a server with one fake GPU of 80 GB and models of 50 GiB each.
func gpuServer(t *testing.T, modules map[string]string, args ...string) (*process, *gputest.Library) {
	t.Helper()
	nvml, cuda := gputest.NVML(t, gputest.Full), gputest.CUDA(t)
	nvml.Set(gputest.State{GPUs: []gputest.GPU{gputest.A100(0)}})
	catalog := t.TempDir()
	for name, code := range modules {
		action := fmt.Sprintf("runtime: python\npython: {path: model.py, interpreter: %s}\nresources: {gpu_memory: 50 GiB}\n", current(t))
		writeAll(t, filepath.Join(catalog, name), map[string]string{"action.yaml": action, "model.py": code})
	}
	p := newServer(t)
	p.env = append(p.env, "DEEPFN_NVML="+nvml.Path(), "DEEPFN_LIBCUDA="+cuda.Path())
	return p.serve(&p.stdout, append([]string{"--catalog", catalog, "--gpu-residency", "0", "--host-memory", "100 GiB"}, args...)...), cuda
}

// who is the answer of a model, and from where it was loaded for it.
type who struct {
	PID     int
	Done    []string
	Devices string
	from    string
}

func (p *process) who(model string) who {
	p.t.Helper()
	r := p.mustPost("/v2/models/"+model+"/predict/", "application/json", []byte(`{"n": 1}`))
	var answer struct{ Predictions who }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 200 {
		p.t.Fatalf("%s: got %d %s, %v", model, r.status, r.body, err)
	}
	answer.Predictions.from = r.header.Get("Deepfn-Start")
	return answer.Predictions
}

// stats is the document of GET /stats.
func (p *process) stats() string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+"/stats", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.ReplaceAll(r.body, ": ", ":")
}

// TestTiers: of models that do not fit together the one that goes is suspended, by its own hooks
// or by the driver, and comes back in the same process.
func TestTiers(t *testing.T) {
	p, cuda := gpuServer(t, map[string]string{"plain": whoModule, "hooks": hooksModule})
	plain, hooks := p.who("plain"), p.who("hooks")
	if plain.from != "disk" || hooks.from != "disk" || plain.Devices != gputest.A100(0).UUID || hooks.Devices != plain.Devices {
		t.Errorf("the first time: got %+v and %+v", plain, hooks)
	}
	for range 3 {
		if again := p.who("plain"); again.from != "host" || again.PID != plain.PID {
			t.Errorf("plain: got %+v, want it from the host's memory in process %d", again, plain.PID)
		}
		if again := p.who("plain"); again.from != "warm" {
			t.Errorf("plain, once more: got %+v", again)
		}
		if again := p.who("hooks"); again.from != "host" || again.PID != hooks.PID {
			t.Errorf("hooks: got %+v, want it from the host's memory in process %d", again, hooks.PID)
		}
	}
	if want := slices.Repeat([]string{"suspend", "resume"}, 3); !slices.Equal(p.who("hooks").Done, want) {
		t.Errorf("hooks: got %q, want %q", p.who("hooks").Done, want)
	}
	var verbs []string
	for _, call := range cuda.Calls() {
		if fields := strings.Fields(call); len(fields) > 1 && fields[1] == fmt.Sprint(plain.PID) {
			verbs = append(verbs, fields[0])
		}
	}
	for verb, least := range map[string]int{"lock": 4, "checkpoint": 4, "restore": 3, "unlock": 3} {
		n := 0
		for _, v := range verbs {
			if v == verb {
				n++
			}
		}
		if n < least {
			t.Errorf("the driver was asked %q, want %s %d times", verbs, verb, least)
		}
	}
}

// TestTiersFail: a driver that cannot make checkpoints, or fails in the middle, costs a load.
func TestTiersFail(t *testing.T) {
	for name, rule := range map[string]gputest.Rule{
		"lock":       {Function: "cuCheckpointProcessLock", Code: 999},
		"checkpoint": {Function: "cuCheckpointProcessCheckpoint", Code: 999},
		"restore":    {Function: "cuCheckpointProcessRestore", Code: 999},
	} {
		t.Run(name, func(t *testing.T) {
			p, cuda := gpuServer(t, map[string]string{"a": whoModule, "b": whoModule})
			cuda.Set(gputest.State{Rules: []gputest.Rule{rule}})
			first := p.who("a")
			p.who("b")
			again := p.who("a")
			if again.from == "warm" || again.from == "host" || again.PID == first.PID {
				t.Errorf("got %+v after %+v, want it started again", again, first)
			}
		})
	}
}

// TestReleaseBeforePause: before the platform freezes the server its models leave the GPU, and after
// the thaw the first request has them back without a load.
func TestReleaseBeforePause(t *testing.T) {
	p, _ := gpuServer(t, map[string]string{"m": hooksModule}, "--release-before-pause", "300ms")
	first := p.who("m")
	eventually(t, "suspended", func() bool { return strings.Contains(p.stats(), `"state":"suspended"`) })
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	again := p.who("m")
	if again.from != "host" || again.PID != first.PID || !slices.Equal(again.Done, []string{"suspend", "resume"}) {
		t.Errorf("got %+v after %+v", again, first)
	}
}

// TestNeverFitsHere: a model that no GPU of the machine can hold is refused with the numbers.
func TestNeverFitsHere(t *testing.T) {
	p, _ := gpuServer(t, map[string]string{"m": whoModule}, "--gpu-headroom", "40 GiB")
	r := p.mustPost("/v2/models/m/predict/", "application/json", []byte(`{}`))
	if r.status != 503 || !strings.Contains(r.body, "50 GiB") || !strings.Contains(r.body, "40 GiB are kept free") {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if _, err := os.Stat(filepath.Join(p.data, "peaks.json")); err == nil {
		t.Error("something was measured of a model that never ran")
	}
}
