package launcher_test

import (
	"strings"
	"testing"

	"github.com/deepfn/deepfn/runtime/worker/launcher"
)

// heavy is a model that imports what models import.
const heavy = `
import asyncio, concurrent.futures, http.client, logging.config, multiprocessing, sqlite3, xml.dom.minidom
import numpy, numpy.random, numpy.linalg

def main(args):
    return {}
`

// BenchmarkStart is the time from launcher.Start to a worker that is ready.
func BenchmarkStart(b *testing.B) {
	run := action(b, heavy)
	run.Spec.Preload = &[]string{
		"asyncio", "concurrent.futures", "http.client", "logging.config", "multiprocessing",
		"numpy", "numpy.random", "numpy.linalg", "sqlite3", "xml.dom.minidom",
	}
	start := func(b *testing.B, l *bench) {
		b.Helper()
		for b.Loop() {
			w, err := l.Start(b.Context(), run)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			_ = w.Close()
			b.StartTimer()
		}
	}
	b.Run("fresh", func(b *testing.B) { start(b, open(b, launcher.Config{})) })
	b.Run("forked", func(b *testing.B) {
		l := open(b, launcher.Config{})
		l.forked(b, run)
		run.Fork = true
		start(b, l)
		if n := strings.Count(l.log.String(), "worker not forked"); n > 0 {
			b.Errorf("%d workers were not forked", n)
		}
	})
	b.Run("learned", func(b *testing.B) {
		run.Spec.Preload = nil
		l := open(b, launcher.Config{})
		l.forked(b, run)
		run.Fork = true
		start(b, l)
	})
}
