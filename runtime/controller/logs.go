package controller

import (
	"fmt"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// stampFormat is the time of a line in UTC.
const stampFormat = "2006-01-02T15:04:05.000000000Z"

// formatLogs writes lines as the API shows them (DockerToActivationLogStore.scala): a time,
// the stream and the text, at most limit MiB of texts, and a last line that says so when
// there were more. The time is that of the end: lines have none of their own.
func formatLogs(lines []actions.LogLine, at time.Time, limit int) []string {
	logs := make([]string, 0, len(lines))
	if limit == 0 {
		return logs
	}
	stamp := at.UTC().Format(stampFormat)
	left := limit << 20
	for _, line := range lines {
		stream := "stdout"
		if line.Stream == actions.Stderr {
			stream = "stderr"
		}
		if left -= len(line.Text) + 1; left < 0 { // and its newline
			text := fmt.Sprintf("Logs were truncated because the total bytes size exceeds the limit of %d bytes.", limit<<20)
			return append(logs, fmt.Sprintf("%-30s stderr: %s", stamp, text))
		}
		logs = append(logs, fmt.Sprintf("%-30s %s: %s", stamp, stream, line.Text))
	}
	return logs
}
