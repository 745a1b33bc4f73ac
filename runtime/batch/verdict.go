package batch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// committed takes note of a chunk that is committed, and says whether the batch has to stop.
func (r *run) committed(c *commit) error {
	r.commits[c.Index] = c
	r.shelf.add(c)
	r.progress.tell(r.commits)
	if len(c.Unselected) > 0 {
		r.watch.line("no answer of the first chunk has " + strings.Join(c.Unselected, ", ") + " (output.select)")
	}
	return r.passed(false)
}

// passed is the error when too many rows have failed. Without a limit these are all of them, which
// is known at the end.
func (r *run) passed(end bool) error {
	if end && r.rec.Batch.MaxErrors == "" && r.progress.rows > 0 && r.progress.failed == r.progress.rows {
		return r.allFailed()
	}
	if !r.limit.passed(r.progress.rows, r.progress.failed, end) {
		return nil
	}
	return actions.Errorf(actions.Failed,
		"%d of %d rows failed, and at most %s may (max_errors); %serrors-*.ndjson say why. With another max_errors the batch goes on where it is",
		r.progress.failed, r.progress.rows, r.limit, r.folder.url)
}

// allFailed is the error of a batch without an answer, which nobody has said to be fine.
func (r *run) allFailed() error {
	first := ""
	for _, index := range slices.Sorted(maps.Keys(r.commits)) {
		if c := r.commits[index]; c.First != "" {
			first = fmt.Sprintf(" The first: %s;", strings.TrimSuffix(c.First, "."))
			break
		}
	}
	return actions.Errorf(actions.Failed, "all rows failed, %d of them.%s %serrors-*.ndjson say why. If that is fine, say max_errors 100%%",
		r.progress.rows, first, r.folder.url)
}

// firstError is the error of the first row, shortened.
func firstError(outcomes []outcome) string {
	if len(outcomes) == 0 || outcomes[0].err == nil {
		return ""
	}
	return fmt.Sprintf("%.500s", outcomes[0].err)
}

// unselected returns the members that are to be kept and that none of the answers has. That may be,
// of one which few answers have; but not of all, so that nothing is kept of any answer: then it is
// the error, Invalid.
func unselected(out actions.BatchOutput, all []rows.Row, outcomes []outcome, which string) ([]string, error) {
	if len(out.Select) == 0 {
		return nil, nil
	}
	var answers []rows.Answer
	for i := range outcomes {
		if outcomes[i].err == nil {
			answers = append(answers, answerOf(&all[i], &outcomes[i]))
		}
	}
	missing, there := rows.Unselected(out, answers)
	if len(missing) < len(out.Select) {
		return missing, nil
	}
	return nil, actions.Errorf(actions.Invalid,
		"output.select is %.1000s, which no answer %s has; the members of an answer are %.1000s. Select also one that all answers have if this may be",
		strings.Join(missing, ", "), which, strings.Join(there, ", "))
}
