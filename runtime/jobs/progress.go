package jobs

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/deepfn/deepfn/actions"
)

const (
	progressPrefix = "deepfn-progress:"
	maxText        = 256 // bytes of a progress' text
)

// A mark is a line that says how far something is and takes the place of the one before.
type mark struct {
	fraction float64
	text     string
	known    bool // there is a fraction; a bar without a total has none
	told     bool // the model said it to us, it is not a bar
}

// sound is a progress that can be written and read again: JSON has no infinities.
func sound(p actions.Progress) actions.Progress {
	for _, n := range []*float64{&p.Fraction, &p.Rate, &p.Remaining} {
		if math.IsNaN(*n) || math.IsInf(*n, 0) {
			*n = 0
		}
		*n = max(*n, 0) + 0
	}
	p.Fraction, p.Text = min(p.Fraction, 1), short(p.Text)
	if p.Time.IsZero() {
		p.Time = time.Now()
	}
	p.Time = p.Time.UTC().Round(0)
	return p
}

// parseMark reads a line that was printed. It is false for an ordinary line.
func parseMark(stream actions.Stream, line string) (mark, bool) {
	line = plain(line)
	if rest, ok := strings.CutPrefix(line, progressPrefix); ok {
		return parseTold(rest)
	}
	if stream != actions.Stderr {
		return mark{}, false
	}
	if m, ok := parseBar(line); ok {
		return m, true
	}
	return mark{}, isCounter(line)
}

// parseTold reads what follows progressPrefix.
func parseTold(rest string) (mark, bool) {
	number, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	fraction, ok := parseFraction(number)
	return mark{fraction: fraction, text: short(text), known: true, told: true}, ok
}

// parseFraction reads a decimal number, or one of hundredths with a "%", and brings it
// between 0 and 1.
func parseFraction(s string) (float64, bool) {
	number, percent := strings.CutSuffix(s, "%")
	if number == "" || strings.Trim(number, "0123456789.eE+-") != "" {
		return 0, false // among others NaN, which is of no use
	}
	// A number that a float64 cannot hold is an infinity, which has a place too.
	f, err := strconv.ParseFloat(number, 64)
	if err != nil && !isRange(err) {
		return 0, false
	}
	if percent {
		f /= 100
	}
	// Adding 0 makes -0 the 0 that people expect.
	return min(max(f, 0), 1) + 0, true
}

// parseBar reads a bar of tqdm: "text:  42%|####2     | 42/100 [00:01<00:02, 30.1it/s]".
func parseBar(line string) (mark, bool) {
	before, rest, ok := strings.Cut(line, "%|")
	if !ok {
		return mark{}, false
	}
	_, counts, ok := strings.Cut(rest, "|")
	if !ok || !isCount(counts) {
		return mark{}, false
	}
	text := strings.TrimRight(before, "0123456789.")
	number := before[len(text):]
	if text != "" && !strings.HasSuffix(text, " ") && !strings.HasSuffix(text, ":") {
		return mark{}, false
	}
	fraction, ok := parseFraction(number + "%")
	return mark{fraction: fraction, text: short(strings.TrimSuffix(strings.TrimSpace(text), ":")), known: true}, ok
}

// isCount says whether s is what tqdm prints behind a bar: " 42/100 [00:01<00:02, …]".
func isCount(s string) bool {
	counts, times, ok := strings.Cut(s, " [")
	n, total, slash := strings.Cut(strings.TrimSpace(counts), "/")
	return ok && slash && startsWithDigit(n) && startsWithDigit(total) && isTimes(times)
}

// isCounter says whether line is what tqdm prints when it does not know the total:
// "text: 42it [00:01, 30.1it/s]".
func isCounter(line string) bool {
	before, times, ok := strings.Cut(line, "it [")
	if !ok || !isTimes(times) {
		return false
	}
	number := before[strings.LastIndexByte(before, ' ')+1:]
	return startsWithDigit(number) && strings.Trim(number, "0123456789.kMGT") == ""
}

// isTimes says whether s begins with a time such as 00:01 and has the bracket's end.
func isTimes(s string) bool {
	minutes, rest, ok := strings.Cut(s, ":")
	return ok && minutes != "" && strings.Trim(minutes, "0123456789") == "" &&
		startsWithDigit(rest) && strings.Contains(rest, "]")
}

func startsWithDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// isRange says whether a number was too large for its type.
func isRange(err error) bool {
	return errors.Is(err, strconv.ErrRange)
}

// plain is line without the sequences that move a terminal's cursor or colour its text,
// and without the space around it.
func plain(line string) string {
	if !strings.Contains(line, "\x1b[") {
		return strings.TrimSpace(line)
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(line, "\x1b[")
		b.WriteString(before)
		if !ok {
			return strings.TrimSpace(b.String())
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
		line = rest[end+1:] // without an end, what follows is text
	}
}

// short is text that can be shown on one line.
func short(text string) string {
	text = strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD"))
	return cut(text, maxText)
}

// cut is s, or its first n bytes at most, at the border of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
