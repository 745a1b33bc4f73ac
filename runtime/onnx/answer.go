package onnx

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/deepfn/deepfn/actions"
)

// Media types of answers.
const (
	typeJSON  = "application/json"
	typeNPY   = "application/x-npy"
	typeBytes = "application/octet-stream"
)

// A label is one line of a classification.
type label struct {
	Label string  `json:"label"`
	Score float64 `json:"score"`
}

// A classifier answers with labels.
type classifier struct {
	softmax bool
	labels  []string
	top     int
}

func (c *classifier) answer(t tensor) (any, error) {
	scores, err := oneRow(t)
	if err != nil {
		return nil, err
	}
	if len(scores) != len(c.labels) {
		return nil, fmt.Errorf("the model answered with %d classes, the action has %d labels", len(scores), len(c.labels))
	}
	p := mapped(scores, func(v float32) float64 { return float64(v) })
	if c.softmax {
		softmax(p)
	}
	if slices.ContainsFunc(p, notFinite) {
		return nil, errNotFinite
	}
	all := make([]label, len(p))
	for i, v := range p {
		all[i] = label{c.labels[i], v}
	}
	slices.SortStableFunc(all, func(a, b label) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	return struct {
		label
		Labels []label `json:"labels"`
	}{all[0], all[:min(c.top, len(all))]}, nil
}

var errNotFinite = errors.New("the model answered with numbers that are infinite or not a number")

func notFinite(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// oneRow returns the elements of a tensor whose dimensions but the last are 1.
func oneRow(t tensor) ([]float32, error) {
	d := t.floats()
	if len(d) == 0 || len(t.shape) == 0 || t.shape[len(t.shape)-1] != int64(len(d)) {
		return nil, fmt.Errorf("the model answered with %s of the shape %s, a classification is one row of floats", t.kind, shapeText(t.shape))
	}
	return d, nil
}

// softmax works in place.
func softmax(p []float64) {
	most, sum := slices.Max(p), 0.0
	for i, v := range p {
		p[i] = math.Exp(v - most)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
}

// A lineReader decodes what CTC trains.
type lineReader struct {
	softmax bool
	// texts are what each class means; the blank is empty.
	texts []string
	blank int
}

func newLineReader(l TextLine, characters []string) *lineReader {
	texts := slices.Clone(characters)
	if l.Space {
		texts = append(texts, " ")
	}
	if l.Blank == "last" {
		return &lineReader{l.Softmax, append(texts, ""), len(texts)}
	}
	return &lineReader{l.Softmax, slices.Insert(texts, 0, ""), 0}
}

// answer takes the best class of each step; a class that repeats without a blank between
// counts once. Spaces at the ends are cut, because they come from the margins of the
// picture. The score is the mean probability of the steps that counted.
func (r *lineReader) answer(t tensor) (any, error) {
	d, classes := t.floats(), len(r.texts)
	if len(t.shape) != 3 || t.shape[0] != 1 || d == nil {
		return nil, fmt.Errorf("the model answered with %s of the shape %s, a text line is [1,steps,classes] of floats", t.kind, shapeText(t.shape))
	}
	if t.shape[2] != int64(classes) {
		return nil, fmt.Errorf("the model answered with %d classes, the action has %d characters with the blank", t.shape[2], classes)
	}
	var text strings.Builder
	sum, kept, previous := 0.0, 0, r.blank
	for step := range slices.Chunk(d, classes) {
		best := 0
		for i, v := range step {
			if v > step[best] {
				best = i
			}
		}
		if notFinite(float64(step[best])) {
			return nil, errNotFinite
		}
		if best != r.blank && best != previous {
			text.WriteString(r.texts[best])
			sum += r.probability(step, best)
			kept++
		}
		previous = best
	}
	return struct {
		Text  string  `json:"text"`
		Score float64 `json:"score"`
	}{strings.Trim(text.String(), " "), sum / float64(max(kept, 1))}, nil
}

func (r *lineReader) probability(step []float32, best int) float64 {
	if !r.softmax {
		return float64(step[best])
	}
	sum := 0.0
	for _, v := range step {
		sum += math.Exp(float64(v) - float64(step[best]))
	}
	return 1 / sum
}

// jsonAnswer makes the response of an output that has one form.
func jsonAnswer(v any, accept string) (actions.Response, error) {
	wanted, err := actions.ParseAccept(accept)
	if err != nil {
		return actions.Response{}, err
	}
	if wanted.Choose(typeJSON) == "" {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "the model answers with %s, not with %q", typeJSON, accept)
	}
	data, err := json.Marshal(v)
	return actions.Response{ContentType: typeJSON, Data: data}, err
}

// tensorsAnswer makes the response of raw outputs: an object of them by name or, of a
// single one, a .npy file.
func tensorsAnswer(ports []port, out []tensor, accept string) (actions.Response, error) {
	wanted, err := actions.ParseAccept(accept)
	if err != nil {
		return actions.Response{}, err
	}
	kind := wanted.Choose(typeJSON, typeNPY, typeBytes)
	switch kind {
	case "":
		return actions.Response{}, actions.Errorf(actions.Unsupported, "the model answers with %s or %s, not with %q", typeJSON, typeNPY, accept)
	case typeJSON:
		b := []byte("{")
		for i, t := range out {
			name, err := json.Marshal(ports[i].name)
			if err == nil {
				b, err = appendTensor(append(append(comma(b, i), name...), ':'), t)
			}
			if err != nil {
				return actions.Response{}, err
			}
		}
		return actions.Response{ContentType: typeJSON, Data: append(b, '}')}, nil
	}
	if len(out) != 1 {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "the model has %d outputs, a .npy file holds one; accept %s", len(out), typeJSON)
	}
	data, err := writeNPY(out[0])
	if err != nil {
		return actions.Response{}, actions.Errorf(actions.Unsupported, "output %s: %w", ports[0].name, err)
	}
	return actions.Response{ContentType: kind, Filename: "output.npy", Data: data}, nil
}
