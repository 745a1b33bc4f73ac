package proxy

import (
	"context"
	"log/slog"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

const (
	// maxOutput is how many lines of what a model printed in one call are logged: the
	// last ones, where a traceback ends.
	maxOutput = 50
	// maxLine is how many bytes of such a line are logged.
	maxLine = 4 << 10
)

// outputLevel is the level for what a model printed in a call that ended so.
func outputLevel(e *actions.Error) slog.Level {
	if e == nil {
		return slog.LevelInfo
	}
	switch e.Code {
	case actions.Failed, actions.NoAnswer, actions.Exited, actions.Unavailable, actions.Internal:
		return slog.LevelWarn
	case actions.Invalid, actions.NotFound, actions.Unsupported, actions.TooLarge, actions.Conflict,
		actions.Unauthorized, actions.Forbidden, actions.Busy, actions.Deadline, actions.Canceled:
		return slog.LevelInfo
	}
	return slog.LevelInfo
}

// logOutput logs what a model printed in a call, a record for each line, and then how many
// lines before those were left out.
func (s *Server) logOutput(ctx context.Context, c *call, level slog.Level, lines []actions.LogLine) {
	if len(lines) == 0 || !s.log.Enabled(ctx, level) {
		return
	}
	log := s.log.With("model", short(c.request.Model), "request_id", c.requestID)
	left := max(0, len(lines)-maxOutput)
	for _, line := range lines[left:] {
		// The log may go to a stream on which the platform looks for sentinels.
		text := strings.ReplaceAll(line.Text, sentinel, "(sentinel)")
		log.Log(ctx, level, "model output", "stream", streamName(line.Stream), "line", cut(text, maxLine))
	}
	if left > 0 {
		log.Log(ctx, level, "model output left out", "lines", left)
	}
}

func streamName(s actions.Stream) string {
	if s == actions.Stderr {
		return "stderr"
	}
	return "stdout"
}
