package tracetest

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPlot(t *testing.T) {
	series := []Series{
		{Name: "one, with < and &", Totals: []float64{1, 3, 2}, Course: []float64{0, 0.5, 1}},
		{Name: "other", Totals: []float64{4, 4.2, 5}, Course: []float64{0, 3, 4}},
	}
	picture := string(Plot(series, 24))
	for dec := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v\n%s", err, picture)
		}
	}
	for _, want := range []string{"<circle", "with &lt; and &amp;", ">2.00<", ">4.20<", ">24<", ">hours of reloads<"} {
		if !strings.Contains(picture, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
	if n := strings.Count(picture, "<circle"); n != 6 {
		t.Errorf("got %d dots, want one for each total", n)
	}
}

func TestAxis(t *testing.T) {
	for most, want := range map[float64]float64{0.9: 1, 4.7: 5, 5.1: 6, 11: 15, 99: 100, 101: 150} {
		if got := (axis{most: most}).top(); got != want {
			t.Errorf("top above %v: got %v, want %v", most, got, want)
		}
	}
	if got := Median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median: got %v, want 2.5", got)
	}
}
