package tracetest

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// A Series is what one policy has done, for a plot.
type Series struct {
	Name string
	// Totals is the time of all reloads in hours, one for each seed.
	Totals []float64
	// Course is how that time has grown in one of the seeds, at even steps from the beginning
	// of the trace to its end.
	Course []float64
}

// The picture has two panels of panelWidth by panelHeight, in pixels.
const (
	panelWidth, panelHeight = 380.0, 300.0
	panelTop                = 56.0
	firstLeft, secondLeft   = 64.0, 528.0
	pictureWidth            = 940.0
	pictureHeight           = 410.0
)

// colours are told apart by those who are colour-blind too (Okabe and Ito).
func colours() []string {
	return []string{"#0072b2", "#e69f00", "#d55e00", "#56b4e9", "#c9a400", "#cc79a7"}
}

// Plot draws the series: on the left the totals, a bar to their median and a dot for each; on
// the right the course of one. hours is the length of the trace.
func Plot(series []Series, hours float64) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="13" fill="#222">`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", pictureWidth, pictureHeight)
	var most float64
	for _, s := range series {
		most = max(most, slices.Max(s.Totals), slices.Max(s.Course))
	}
	drawBars(&b, series, axis{left: firstLeft, most: most})
	drawCourses(&b, series, axis{left: secondLeft, most: most}, hours)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// An axis is the vertical one of a panel, from zero to a round number above most.
type axis struct{ left, most float64 }

func (a axis) step() float64 {
	rough := a.most / 5
	unit := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, n := range []float64{1, 2, 5} {
		if n*unit >= rough {
			return n * unit
		}
	}
	return 10 * unit
}

func (a axis) top() float64 { return a.step() * math.Ceil(a.most/a.step()) }

func (a axis) y(v float64) float64 { return panelTop + panelHeight*(1-v/a.top()) }

// draw draws the axis with its lines and the title of its panel.
func (a axis) draw(b *bytes.Buffer, title string) {
	text(b, a.left, 24, "start", "bold", title)
	text(b, a.left-40, 44, "start", "normal", "hours of reloads")
	for v := 0.0; v <= a.top()*1.001; v += a.step() {
		fmt.Fprintf(b, `<path d="M%.1f %.1fh%.0f" stroke="#ddd"/>`+"\n", a.left, a.y(v), panelWidth)
		text(b, a.left-8, a.y(v)+4, "end", "normal", number(v))
	}
}

func text(b *bytes.Buffer, x, y float64, anchor, weight, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-weight="%s">%s</text>`+"\n", x, y, anchor, weight, html.EscapeString(s))
}

func number(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func drawBars(b *bytes.Buffer, series []Series, a axis) {
	a.draw(b, fmt.Sprintf("All reloads: median and each of %d seeds", len(series[0].Totals)))
	place := panelWidth / float64(len(series))
	for i, s := range series {
		middle := a.left + place*(float64(i)+0.5)
		m := Median(s.Totals)
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" fill-opacity="0.55"/>`+"\n",
			middle-0.33*place, a.y(m), 0.66*place, panelTop+panelHeight-a.y(m), colours()[i%len(colours())])
		for j, v := range s.Totals {
			x := middle + 0.4*place*(float64(j)+0.5-float64(len(s.Totals))/2)/float64(len(s.Totals))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="#222"/>`+"\n", x, a.y(v))
		}
		for j, line := range strings.SplitN(s.Name, " ", 2) {
			text(b, middle, panelTop+panelHeight+20+16*float64(j), "middle", "normal", line)
		}
		text(b, middle, panelTop+panelHeight-8, "middle", "bold", fmt.Sprintf("%.2f", m))
	}
}

func drawCourses(b *bytes.Buffer, series []Series, a axis, hours float64) {
	a.draw(b, "Reloads so far, first seed")
	for i := range 5 {
		at := hours * float64(i) / 4
		text(b, a.left+panelWidth*float64(i)/4, panelTop+panelHeight+20, "middle", "normal", number(at))
	}
	text(b, a.left+panelWidth/2, panelTop+panelHeight+40, "middle", "normal", "hours of the trace")
	for i, s := range series {
		var path strings.Builder
		for j, v := range s.Course {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], a.left+panelWidth*float64(j)/float64(len(s.Course)-1), a.y(v))
		}
		colour, dashes := colours()[i%len(colours())], []string{"none", "7 4"}[i/3%2] // those of a trio may lie on one another
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", path.String(), colour, dashes)
		y := panelTop + 16 + 20*float64(i)
		fmt.Fprintf(b, `<path d="M%.1f %.1fh24" stroke="%s" stroke-width="3" stroke-dasharray="%s"/>`+"\n", a.left+16, y-4, colour, dashes)
		text(b, a.left+48, y, "start", "normal", s.Name)
	}
}

// Median returns the value in the middle, of an even number the mean of the two there.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
