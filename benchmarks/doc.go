// Package benchmarks measures deepfn from end to end, each figure beside a control in
// the same run. `make bench` runs it; docs/performance.md keeps results.
package benchmarks
