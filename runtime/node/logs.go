package node

import (
	"encoding/binary"
	"fmt"

	"github.com/deepfn/deepfn/actions"
)

const (
	// extraRoom is the memory of a lane behind the limit: for the lines that a model
	// printed in a call, which are 10 MiB at most, and for what it reports of itself.
	extraRoom = 16 << 20
	// maxInfo is how long the information on a model may be that goes with an answer.
	maxInfo = 2 << 20
	// maxLogs is how many bytes of lines cross. A line takes logHead more than its text.
	maxLogs = 12 << 20
	logHead = 5
)

// putLogs writes lines. What does not fit is left out, and a line says so.
func putLogs(lines []actions.LogLine, room int) []byte {
	const lastLine = 100
	size := 0
	for i, line := range lines {
		next := size + logHead + len(line.Text)
		if next > room-lastLine {
			left := actions.LogLine{Stream: actions.Stderr, Text: fmt.Sprintf("(%d more lines were printed)", len(lines)-i)}
			lines = append(append(make([]actions.LogLine, 0, i+1), lines[:i]...), left)
			size += logHead + len(left.Text)
			break
		}
		size = next
	}
	b := make([]byte, 0, size)
	for _, line := range lines {
		b = append(b, byte(line.Stream))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(line.Text)))
		b = append(b, line.Text...)
	}
	return b
}

// parseLogs reads lines. The bytes may change while they are read.
func parseLogs(b []byte) ([]actions.LogLine, error) {
	if len(b) > maxLogs {
		return nil, fmt.Errorf("lines of %d bytes", len(b))
	}
	b = append([]byte(nil), b...)
	var lines []actions.LogLine
	for len(b) > 0 {
		if len(b) < logHead {
			return nil, fmt.Errorf("a line that ends within its head")
		}
		stream, size := actions.Stream(b[0]), binary.LittleEndian.Uint32(b[1:])
		b = b[logHead:]
		if uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("a line of %d bytes in %d", size, len(b))
		}
		if stream != actions.Stdout && stream != actions.Stderr {
			return nil, fmt.Errorf("a line of stream %d", stream)
		}
		lines = append(lines, actions.LogLine{Stream: stream, Text: string(b[:size])})
		b = b[size:]
	}
	return lines, nil
}
