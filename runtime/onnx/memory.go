package onnx

import (
	"runtime/debug"
	"runtime/metrics"
)

// allocated returns how many bytes this process has allocated for Go since it began.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// giveBack returns unused memory to the system when much was allocated since before. Go
// would keep it for minutes, although the next large picture may never come. It returns
// what is allocated now.
func giveBack(before uint64) uint64 {
	const much = 64 << 20
	now := allocated()
	if now-before > much {
		debug.FreeOSMemory()
	}
	return now
}
