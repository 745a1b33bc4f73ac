package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// WriteRow writes a result as one row of a table.
func (r *Result) WriteRow(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%-4s  %-4s  %-6s  %s\n", r.Outcome, r.Number, r.letters(), r.line())
	return err
}

// WriteHead writes the head of the table.
func WriteHead(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%-4s  %-4s  %-6s  %s\n", "", "no.", "kinds", "what must hold, and what came back when it does not")
	return err
}

// letters are the first letters of the kinds that a case ran with.
func (r *Result) letters() string {
	var b strings.Builder
	for _, k := range r.Kinds {
		b.WriteByte(k[0])
	}
	return b.String()
}

// line is the name of a case, with the reason and the notes.
func (r *Result) line() string {
	line := r.Name
	if r.Reason != "" {
		line += ": " + r.Reason
	}
	if len(r.Notes) > 0 {
		line += " (" + strings.Join(r.Notes, "; ") + ")"
	}
	return line
}

// WriteSummary writes how many cases ended how, and with which kinds of code.
func (r *Report) WriteSummary(w io.Writer) error {
	kinds := "no code"
	if len(r.Kinds) == 0 {
		kinds = "what was not found out"
	} else if r.Kinds[0] != None {
		var names []string
		for _, k := range r.Kinds {
			names = append(names, fmt.Sprintf("%c %s", k[0], k))
		}
		kinds = "code of the kinds " + strings.Join(names, ", ")
	}
	stub := ""
	if r.Stub {
		stub = ", and has an action before any /init"
	}
	if n := r.Interrupted(); n > 0 {
		stub += fmt.Sprintf("; interrupted: %d cases did not run", n)
	}
	_, err := fmt.Fprintf(w, "\n%d pass, %d fail, %d do not apply; the container takes %s%s\n",
		r.Count(Passed), r.Count(Failed), r.Count(NotApplicable), kinds, stub)
	return err
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// The elements of JUnit's XML, as the tools that show test results read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// WriteJUnit writes the report as JUnit's XML: one suite for each suite of cases, skipped
// what does not apply.
func (r *Report) WriteJUnit(w io.Writer) error {
	var doc junitSuites
	var seconds, all float64
	for i := range r.Results {
		result := &r.Results[i]
		if n := len(doc.Suites); n == 0 || doc.Suites[n-1].Name != result.Suite {
			doc.Suites = append(doc.Suites, junitSuite{Name: result.Suite})
			seconds = 0
		}
		suite := &doc.Suites[len(doc.Suites)-1]
		c := junitCase{
			Class: "openwhisk." + strings.ReplaceAll(result.Suite, " ", "-"), Name: result.Number + " " + result.Name,
			Time: fmt.Sprintf("%.3f", result.Took.Seconds()), Output: strings.Join(result.Notes, "\n"),
		}
		switch result.Outcome {
		case Failed:
			c.Failure = &junitMessage{result.Reason}
			suite.Failures++
		case NotApplicable:
			c.Skipped = &junitMessage{result.Reason}
			suite.Skipped++
		case Passed:
		}
		seconds += result.Took.Seconds()
		all += result.Took.Seconds()
		suite.Tests++
		suite.Time = fmt.Sprintf("%.3f", seconds)
		suite.Cases = append(suite.Cases, c)
	}
	doc.Tests, doc.Failures, doc.Skipped = len(r.Results), r.Count(Failed), r.Count(NotApplicable)
	doc.Time = fmt.Sprintf("%.3f", all)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
