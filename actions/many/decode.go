package many

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

const jsonType = "application/json"

// path is a way to a member, none for the value itself.
func path(dotted string) []string {
	if dotted == "" {
		return nil
	}
	return strings.Split(dotted, ".")
}

// answers takes the answers of rows from that of a vectorised call: a list, or lists by name.
func (w *worker) answers(rows []int, resp *actions.Response) *actions.Error {
	found, ok := member(resp.Data, w.answer)
	if !ok {
		return w.unexpected(len(rows), fmt.Sprintf("has no %q, which batching.answer names", w.by.Answer))
	}
	wrong := ""
	switch s := jsonscan.New(found); s.Peek() {
	case '[':
		wrong = w.eachOf(s, rows, resp)
	case '{':
		wrong = w.eachOfLists(s, rows, resp)
	default:
		wrong = fmt.Sprintf("is %.100q", found)
	}
	if wrong != "" {
		return w.unexpected(len(rows), wrong)
	}
	return nil
}

func (w *worker) unexpected(rows int, wrong string) *actions.Error {
	return actions.Errorf(actions.Failed, "the answer of %s to a call of %d rows %s; a list of %d answers, or an object of such lists, is expected",
		w.call.Model.Name, rows, wrong, rows)
}

// member goes a way of names, of which the last of a name counts.
func member(data json.RawMessage, names []string) (json.RawMessage, bool) {
	for _, name := range names {
		var found json.RawMessage
		ok := jsonscan.New(data).Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
			raw, ok := s.Raw()
			if string(key) == name {
				found = raw
			}
			return ok
		})
		if !ok || found == nil {
			return nil, false
		}
		data = found
	}
	return data, true
}

// eachOf gives each row an element of a list. It returns what is wrong with that, "" for nothing.
func (w *worker) eachOf(s *jsonscan.Scanner, rows []int, resp *actions.Response) string {
	n := 0
	ok := s.Array(func(s *jsonscan.Scanner) bool {
		raw, ok := s.Raw()
		if n < len(rows) {
			w.put(rows[n], resp, raw)
		}
		n++
		return ok
	})
	switch {
	case !ok || !s.AtEnd():
		return "is not JSON"
	case n != len(rows):
		return fmt.Sprintf("is a list of %d", n)
	}
	return ""
}

// A named list is a member of an answer.
type named struct {
	head   []byte // the comma, the name and the colon
	values []json.RawMessage
}

// eachOfLists gives each row an object of what the lists have for it. It returns what is wrong
// with that, "" for nothing.
func (w *worker) eachOfLists(s *jsonscan.Scanner, rows []int, resp *actions.Response) string {
	var lists []named
	size, wrong := 2*len(rows), ""
	ok := s.Object(-1, func(s *jsonscan.Scanner, key []byte) bool {
		list := named{appendName([]byte{','}, string(key)), make([]json.RawMessage, 0, len(rows))}
		ok := s.Array(func(s *jsonscan.Scanner) bool {
			raw, ok := s.Raw()
			list.values = append(list.values, raw)
			size += len(list.head) + len(raw)
			return ok
		})
		switch {
		case !ok:
			wrong = fmt.Sprintf("has %.100q, which is no list", key)
		case len(list.values) != len(rows):
			wrong = fmt.Sprintf("has %.100q, which is a list of %d", key, len(list.values))
		}
		lists = append(lists, list)
		return wrong == ""
	})
	switch {
	case wrong != "":
		return wrong
	case !ok || !s.AtEnd():
		return "is not JSON"
	case len(lists) == 0:
		return "is an empty object"
	}
	objects := make([]byte, 0, size)
	for n, row := range rows {
		start := len(objects)
		for _, list := range lists {
			objects = append(append(objects, list.head...), list.values[n]...)
		}
		objects[start] = '{' // the first comma
		objects = append(objects, '}')
		w.put(row, resp, objects[start:len(objects):len(objects)])
	}
	return ""
}

// outcomes takes the answers and errors of rows from that of predict-many.
func (w *worker) outcomes(rows []int, resp *actions.Response) *actions.Error {
	n := 0
	s := jsonscan.New(resp.Data)
	ok := s.Array(func(s *jsonscan.Scanner) bool {
		var o outcome
		ok := s.Object(-1, o.take)
		if ok && n < len(rows) {
			ok = w.settle(rows[n], resp, &o)
		}
		n++
		return ok
	})
	if !ok || !s.AtEnd() || n != len(rows) {
		return actions.Errorf(actions.Failed, "the answer of %s to a predict-many of %d rows is not what is expected: a list as long of values and errors (%d were read)",
			w.call.Model.Name, len(rows), n)
	}
	return nil
}

// An outcome is what predict-many answers for a row: a value, bytes, or an error.
type outcome struct {
	value, whole                  json.RawMessage
	contentType, filename, data   json.RawMessage
	message, code, fields, status json.RawMessage
}

// take is called before each member of an outcome, and moves past it.
func (o *outcome) take(s *jsonscan.Scanner, key []byte) bool {
	raw, ok := s.Raw()
	switch string(key) {
	case "value":
		o.value = raw
	case "whole":
		o.whole = raw
	case "content_type":
		o.contentType = raw
	case "filename":
		o.filename = raw
	case "data":
		o.data = raw
	case "error":
		o.message = raw
	case "code":
		o.code = raw
	case "fields":
		o.fields = raw
	case "status":
		o.status = raw
	}
	return ok
}

// settle makes the result of a row of its outcome, and says whether that is one.
func (w *worker) settle(row int, resp *actions.Response, o *outcome) bool {
	switch {
	case o.value != nil:
		w.put(row, resp, o.value)
		w.results[row].Response.Whole = string(o.whole) == "true"
		return true
	case o.message != nil:
		e := &actions.Error{}
		for _, part := range []struct {
			raw json.RawMessage
			to  any
		}{{o.message, &e.Msg}, {o.code, &e.Code}, {o.fields, &e.Fields}, {o.status, &e.Status}} {
			if part.raw != nil && json.Unmarshal(part.raw, part.to) != nil {
				return false
			}
		}
		w.results[row] = Result{Err: e}
		return e.Code != ""
	case o.data != nil:
		return w.settleData(row, resp, o)
	default:
		return false
	}
}

// settleData makes the result of a row whose answer is bytes.
func (w *worker) settleData(row int, resp *actions.Response, o *outcome) bool {
	r := actions.Response{Timing: resp.Timing}
	var data string
	for _, part := range []struct {
		raw json.RawMessage
		to  *string
	}{{o.contentType, &r.ContentType}, {o.filename, &r.Filename}, {o.data, &data}} {
		if part.raw != nil && json.Unmarshal(part.raw, part.to) != nil {
			return false
		}
	}
	var err error
	r.Data, err = base64.StdEncoding.DecodeString(data)
	w.results[row] = Result{Response: r}
	return err == nil
}
