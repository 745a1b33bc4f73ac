package benchmarks

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// sumRows is a function that takes many rows at once.
const sumRows = `def predict(rows: list) -> list:
    return [{"sum": row["a"] + row["b"]} for row in rows]
`

// singles is how many single calls each repetition compares a batch with.
const singles = 1000

// BenchmarkBatchRows is a batch prediction over NDJSON by a vectorised Python function, 1,000 rows
// a call, beside a loop of single /run calls of the same function over one connection to the same
// server, in turns. DEEPFN_BENCH_ROWS is how many rows, 100,000 if it says nothing.
func BenchmarkBatchRows(b *testing.B) {
	dir := b.TempDir()
	n := countOf(b, "DEEPFN_BENCH_ROWS", 100_000)
	var rows bytes.Buffer
	for i := range n {
		fmt.Fprintf(&rows, `{"id":"r%d","a":%d,"b":0.5}`+"\n", i, i)
	}
	write(b, filepath.Join(dir, "rows.ndjson"), rows.Bytes())
	write(b, filepath.Join(dir, "sum", "model.py"), []byte(sumRows))
	write(b, filepath.Join(dir, "sum", "action.yaml"), fmt.Appendf(nil,
		"runtime: python\npython: {path: model.py, interpreter: %s}\nbatching: {argument: rows, size: 1000}\n", os.Getenv("DEEPFN_TEST_PYTHON_CURRENT")))
	s := serveBatches(b, dir, filepath.Join(dir, "sum"))
	one := request{
		url: s.url + "/run", contentType: "application/json",
		body: []byte(`{"value":{"rows":[{"a":1,"b":0.5}]}}`), want: "1.5",
	}
	s.compare(b, "sum", func(output string) actions.Batch {
		return actions.Batch{
			Input:  actions.BatchInput{URL: "file://" + dir + "/rows.ndjson", Key: "id"},
			Output: actions.BatchOutput{URL: output}, Map: map[string]string{"a": "a", "b": "b"},
		}
	}, int64(n), one)
}

// BenchmarkBatchImages is a batch prediction of ocr-line over a folder of pictures, by one worker and
// by two, beside a loop of single /run calls with such a picture, in turns. DEEPFN_BENCH_IMAGES is
// how many, 200 if it says nothing.
func BenchmarkBatchImages(b *testing.B) {
	for _, instances := range []string{"1", "2"} {
		b.Run("instances-"+instances, func(b *testing.B) {
			dir := b.TempDir()
			n := countOf(b, "DEEPFN_BENCH_IMAGES", 200)
			middle := writePictures(b, filepath.Join(dir, "lines"), n)
			s := serveBatches(b, dir, "ocr-line", "--instances", instances, "--warm", instances)
			one := request{
				url: s.url + "/run", contentType: "application/json",
				body: fmt.Appendf(nil, `{"value":{"image":%q}}`, base64.StdEncoding.EncodeToString(middle)), want: `"text"`,
			}
			s.compare(b, "ocr-line", func(output string) actions.Batch {
				return actions.Batch{Input: actions.BatchInput{URL: "file://" + dir + "/lines/"}, Output: actions.BatchOutput{URL: output}}
			}, int64(n), one)
		})
	}
}

// countOf is what a variable says, or the usual number.
func countOf(b *testing.B, variable string, usual int) int {
	b.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("%s=%s: %v", variable, text, err)
	}
	return n
}

func write(b *testing.B, path string, data []byte) {
	b.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// writePictures writes the picture of a line n times, each cut at another place, and returns one
// of middle length.
func writePictures(b *testing.B, dir string, n int) (middle []byte) {
	b.Helper()
	data, err := os.ReadFile("../examples/ocr-line/line.png")
	if err != nil {
		b.Fatal(err)
	}
	line, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.Fatal(err)
	}
	whole, ok := line.(interface {
		SubImage(r image.Rectangle) image.Image
	})
	if !ok {
		b.Fatalf("a %T cannot be cut", line)
	}
	for i := range n {
		bounds := line.Bounds()
		bounds.Max.X -= i % (bounds.Dx() / 2)
		var out bytes.Buffer
		if err := png.Encode(&out, whole.SubImage(bounds)); err != nil {
			b.Fatal(err)
		}
		write(b, filepath.Join(dir, fmt.Sprintf("%05d.png", i)), out.Bytes())
		if i == min(n, line.Bounds().Dx()/2)/2 {
			middle = out.Bytes()
		}
	}
	return middle
}

// A batchServer is a deepfn that takes batches.
type batchServer struct {
	url string
	dir string
	pid int
}

func serveBatches(b *testing.B, dir, model string, flags ...string) batchServer {
	b.Helper()
	program, err := filepath.Abs("../bin/deepfn")
	if err != nil {
		b.Fatal(err)
	}
	address := freeAddress(b)
	args := append([]string{
		"serve", model, "--listen", address, "--offline", "--data", filepath.Join(dir, "data"), "--allow-url", "file://" + dir + "/",
	}, flags...)
	cmd := exec.CommandContext(b.Context(), program, args...)
	run(b, cmd)
	s := batchServer{url: "http://" + address, dir: dir, pid: cmd.Process.Pid}
	waitFor(b, func() bool {
		answer, err := get(b.Context(), s.url+"/readyz")
		return err == nil && strings.Contains(answer, "ready")
	})
	return s
}

// compare runs a batch and a loop of single calls in turns, and reports rows in a second, and the
// memory of the server and its worker after a fifth and at most.
func (s batchServer) compare(b *testing.B, model string, batch func(output string) actions.Batch, rows int64, one request) {
	b.Helper()
	var batches, loops []time.Duration
	var early, most int64
	for b.Loop() {
		took, began, peak := s.run(b, model, batch(fmt.Sprintf("file://%s/out-%d/", s.dir, len(batches))), rows)
		batches = append(batches, took)
		early, most = max(early, began), max(most, peak)
		var loop time.Duration
		single := dial(b, one) // now: the server closes what is idle for as long as a batch takes
		for range singles {
			loop += single.send(b)
		}
		loops = append(loops, loop)
	}
	perBatchRow := float64(median(batches).Nanoseconds()) / float64(rows)
	perSingle := float64(median(loops).Nanoseconds()) / singles
	b.ReportMetric(1e9/perBatchRow, "rows/s")
	b.ReportMetric(1e9/perSingle, "singles/s")
	b.ReportMetric(perSingle/perBatchRow, "times-the-rate")
	b.ReportMetric(float64(early)/(1<<20), "early-MiB")
	b.ReportMetric(float64(most)/(1<<20), "most-MiB")
}

// run runs one batch to its end. early is the memory when a fifth of it was done, most the most
// after that.
func (s batchServer) run(b *testing.B, model string, batch actions.Batch, rows int64) (took time.Duration, early, most int64) {
	b.Helper()
	body, err := json.Marshal(batch)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	job, err := s.ask(b.Context(), http.MethodPost, "/v2/models/"+model+"/batch/", body)
	if err != nil {
		b.Fatal(err)
	}
	for !job.State.Final() {
		time.Sleep(20 * time.Millisecond)
		if job, err = s.ask(b.Context(), http.MethodGet, "/v2/models/"+model+"/batch/"+job.ID, nil); err != nil {
			b.Fatal(err)
		}
		if job.Progress == nil || job.Progress.Rows < rows/5 {
			continue
		}
		size := residentTree(b, s.pid)
		if early == 0 {
			early = size
		}
		most = max(most, size)
	}
	took = time.Since(began)
	if job.State != actions.JobDone || job.Progress == nil || job.Progress.Rows != rows || job.Progress.Failed > 0 {
		b.Fatalf("the batch ended as %+v, %+v", job, job.Progress)
	}
	return took, early, most
}

func (s batchServer) ask(ctx context.Context, method, path string, body []byte) (job actions.Job, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return job, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return job, err
	}
	err = json.NewDecoder(resp.Body).Decode(&job)
	if resp.StatusCode >= 300 {
		err = errors.Join(err, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, job.Error))
	}
	return job, errors.Join(err, resp.Body.Close())
}

// residentTree is the memory of a process and of its children, in bytes.
func residentTree(b *testing.B, pid int) (sum int64) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0 // it has ended
	}
	fields := strings.Fields(string(data))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	sum = pages * int64(os.Getpagesize())
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range children {
		list, _ := os.ReadFile(path) // a thread may have gone
		for child := range strings.FieldsSeq(string(list)) {
			if n, err := strconv.Atoi(child); err == nil {
				sum += residentTree(b, n)
			}
		}
	}
	return sum
}
