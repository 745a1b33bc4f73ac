package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/batch"
)

const (
	// previewTime is how long rows are predicted to say how long all take.
	previewTime = 2 * time.Second
	// previewWidth is how many bytes of arguments and answers are shown.
	previewWidth = 400
)

// preview predicts the first rows and says what the whole would take.
func (r *batchRun) preview(ctx context.Context, engine *batch.Engine, in actions.Batch) error {
	p, err := engine.Preview(ctx, in, previewTime)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(r.stdout, previewText(p, r.pool.instances))
	return err
}

// previewText is a preview for people.
func previewText(p batch.Preview, instances int) string {
	var b strings.Builder
	say := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	say("input", "%s: %s, %s, %s", p.Batch.Input.URL, p.Batch.Input.Format, counted(int64(p.Objects), "object"), actions.Bytes(p.Size))
	say("output", "%s: %s", p.Batch.Output.URL, p.Batch.Output.Format)
	total, about := estimatedRows(p)
	say("rows", "%s%s", about, grouped(total))
	chunks := (total + int64(p.Batch.ChunkRows) - 1) / int64(p.Batch.ChunkRows)
	if byBytes := int64(math.Ceil(float64(p.Size) / float64(p.Batch.ChunkBytes))); byBytes > chunks {
		chunks = byBytes
	}
	say("chunks", "about %s, each of %s and %s at most", grouped(chunks), counted(int64(p.Batch.ChunkRows), "row"), p.Batch.ChunkBytes)
	if p.Rows == 0 {
		return b.String()
	}
	if len(p.Args) > 0 {
		say("arguments", "%s", shortened(p.Args))
	}
	for _, f := range p.Files {
		say("file", "%s=%s, %s, %s", f.Name, f.Filename, f.ContentType, actions.Bytes(len(f.Data)))
	}
	switch {
	case p.Err != nil:
		say("error", "%s", shortened([]byte(p.Err.Error())))
	case actions.IsJSON(p.Answer.ContentType):
		say("answer", "%s", shortened(p.Answer.Data))
	default:
		say("answer", "%s, %s", p.Answer.ContentType, actions.Bytes(len(p.Answer.Data)))
	}
	if len(p.Unselected) > 0 {
		say("select", "no answer so far has %s", strings.Join(p.Unselected, ", "))
	}
	if p.Took > 0 {
		rate := float64(p.Rows) / p.Took.Seconds()
		say("speed", "%s/s, measured with %s and %s: about %s for all", rateText(rate), counted(int64(p.Rows), "row"),
			counted(int64(instances), "instance"), lasting(float64(total)/rate))
	}
	if p.Failed > 0 {
		say("failed", "%s of %s", grouped(int64(p.Failed)), grouped(int64(p.Rows)))
	}
	return b.String()
}

// estimatedRows is how many rows there are, as far as the first ones tell.
func estimatedRows(p batch.Preview) (n int64, about string) {
	switch {
	case p.Total > 0:
		return p.Total, ""
	case p.Bytes >= p.Size || p.Bytes == 0:
		return int64(p.Read), ""
	}
	return int64(math.Round(float64(p.Read) * float64(p.Size) / float64(p.Bytes))), "about "
}

// counted is a number of things.
func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// shortened is a text in one line that people can read.
func shortened(text []byte) string {
	s := strings.ToValidUTF8(strings.Join(strings.Fields(string(text)), " "), "\uFFFD")
	if len(s) <= previewWidth {
		return s
	}
	end := previewWidth
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
