package worker_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// jsonLinesVariable makes the test binary a child that speaks JSON lines, which is how
// the action loops of function platforms talk with a model.
const jsonLinesVariable = "DEEPFN_TEST_JSON_LINES"

// A jsonLine is a request and an answer of that child.
type jsonLine struct {
	Value []float32 `json:"value"`
}

// jsonLinesMain decodes each line and encodes its values again.
func jsonLinesMain() {
	if os.Getenv(jsonLinesVariable) == "" {
		return
	}
	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var v jsonLine
		if err := json.Unmarshal(line, &v); err != nil {
			os.Exit(1)
		}
		if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
			os.Exit(1)
		}
	}
}

type benchmarkSize struct {
	name  string
	bytes int
}

func benchmarkSizes() []benchmarkSize {
	return []benchmarkSize{{"100B", 100}, {"10KiB", 10 << 10}, {"1MiB", 1 << 20}}
}

// tensor returns float32 values that fill size bytes, as an image or a weight has them.
func tensor(size int) []float32 {
	values := make([]float32, size/4)
	for i := range values {
		values[i] = float32(math.Sin(float64(i)))
	}
	return values
}

// measure runs f b.N times and reports the median.
func measure(b *testing.B, size int, f func()) float64 {
	b.Helper()
	f()
	times := make([]time.Duration, 0, b.N)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		f()
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	median := float64(times[len(times)/2].Nanoseconds()) / 1e3
	b.ReportMetric(median, "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1e3, "p99-µs")
	return median
}

// roundTrips are the medians of BenchmarkRoundTrip, in microseconds, by size.
var roundTrips = map[int]float64{}

// BenchmarkRoundTrip is an echo of float32 values through a worker. They are bytes on
// both ends: both ends can use them where they lie.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range benchmarkSizes() {
		b.Run(size.name, func(b *testing.B) {
			w := start(b, config())
			data := make([]byte, 0, size.bytes)
			for _, v := range tensor(size.bytes) {
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			}
			req := actions.Request{Files: []actions.File{{Name: "x", ContentType: "application/octet-stream", Data: data}}}
			roundTrips[size.bytes] = measure(b, size.bytes, func() {
				resp, err := w.Call(b.Context(), req)
				if err != nil || len(resp.Data) != len(data) {
					b.Fatalf("got %d bytes, %v", len(resp.Data), err)
				}
			})
		})
	}
}

// BenchmarkJSONLines is the same echo through a child that reads and writes lines of
// JSON, so that both ends have to decode and encode the values. After
// BenchmarkRoundTrip in the same run it reports the ratio of the medians.
func BenchmarkJSONLines(b *testing.B) {
	for _, size := range benchmarkSizes() {
		b.Run(size.name, func(b *testing.B) {
			in, out := startJSONLines(b)
			values := tensor(size.bytes)
			median := measure(b, size.bytes, func() {
				if err := json.NewEncoder(in).Encode(jsonLine{values}); err != nil {
					b.Fatal(err)
				}
				line, err := out.ReadBytes('\n')
				if err != nil {
					b.Fatal(err)
				}
				var v jsonLine
				if err := json.Unmarshal(line, &v); err != nil || len(v.Value) != len(values) {
					b.Fatalf("got %d values, %v", len(v.Value), err)
				}
			})
			if other := roundTrips[size.bytes]; other > 0 {
				b.ReportMetric(median/other, "x-slower-p50")
			}
		})
	}
}

func startJSONLines(b *testing.B) (io.Writer, *bufio.Reader) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), jsonLinesVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return in, bufio.NewReaderSize(out, 64<<10)
}

// BenchmarkStart is the start and the end of a worker that loads nothing.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		w := start(b, config())
		_ = w.Close()
	}
}
