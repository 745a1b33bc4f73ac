package many

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/jsonscan"
)

const (
	// listRows is how many rows a vectorised call has when nobody says, and manyRows a call
	// of predict-many, in which rows are predicted one after the other.
	listRows = 1000
	manyRows = 256
	// maxBytes is the most bytes of arguments in a call of more than one row.
	maxBytes = 8 << 20
	// maxMembers is the most arguments that a row may have for a model that has names for them.
	maxMembers = 10_000
)

// A way is how rows become calls.
type way uint8

const (
	alone   way = iota // predict, one row
	list               // predict, an argument that is the list of rows
	columns            // predict, arguments that are lists of the rows' values
	many               // predict-many
)

// A plan is what one Predict does.
type plan struct {
	call    Call
	by      actions.Batching
	answer  []string // the way to the answers of a vectorised call
	rows    []Row    // an ONNX model's with the arguments that are bound
	results []Result
	groups  []group
	// onlyAlone says that the engine has no predict-many.
	onlyAlone atomic.Bool
}

// A group are the numbers of the rows of a call, which is a part of one that failed when there
// were splits.
type group struct {
	way    way
	rows   []int
	splits int
}

func newPlan(c Call, rows []Row) *plan {
	p := &plan{call: c, by: c.Batching, rows: rows, results: make([]Result, len(rows))}
	if p.by == (actions.Batching{}) {
		p.by = c.Model.Batching
	}
	p.answer = path(p.by.Answer)
	together := p.together()
	if !c.Model.ParsesArguments() && (together == alone || together == many) {
		p.rows = make([]Row, len(rows))
	}
	order := make([]int, 0, len(rows))
	var apart []int
	for i := range rows {
		switch err := p.take(i, &rows[i], together); {
		case err != nil:
			p.results[i].Err = err
		case together != alone && len(p.rows[i].Files) == 0:
			order = append(order, i)
		default:
			apart = append(apart, i)
		}
	}
	p.divide(order, together)
	for i := range apart {
		p.groups = append(p.groups, group{alone, apart[i : i+1], 0})
	}
	return p
}

// together is the way of the rows that have no files. Others are predicted alone.
func (p *plan) together() way {
	m := &p.call.Model
	switch {
	case p.by.Argument != "":
		return list
	case p.by.Columns:
		return columns
	case p.by.Size != 1 && (m.Runtime == actions.Python || m.Runtime == actions.ONNX):
		return many
	default:
		return alone
	}
}

// take looks at a row before it gets into a call with others, which it must not break.
func (p *plan) take(i int, row *Row, together way) *actions.Error {
	if row.Args != nil && !jsonscan.Valid(row.Args) {
		return actions.Errorf(actions.Invalid, "the arguments of the row are not JSON")
	}
	if together == list || together == columns {
		if row.Args != nil && jsonscan.New(row.Args).Peek() != '{' {
			return actions.Errorf(actions.Invalid, "the arguments of the row must be a JSON object")
		}
		return nil
	}
	if p.call.Model.ParsesArguments() {
		return nil
	}
	args, files, err := bind(&p.call.Model, row.Args, row.Files)
	if err != nil {
		return asError(err)
	}
	p.rows[i] = Row{Args: args, Files: files}
	return nil
}

// bind makes the arguments of a model that has names for them.
func bind(m *actions.Model, args json.RawMessage, files []actions.File) (json.RawMessage, []actions.File, error) {
	values := actions.Values{Files: files}
	if args != nil {
		values.JSON = map[string]json.RawMessage{}
		if s := jsonscan.New(args); !s.Members(maxMembers, values.JSON) || !s.AtEnd() {
			return nil, nil, actions.Errorf(actions.Invalid, "the arguments must be a JSON object of at most %d members", maxMembers)
		}
	}
	return m.Bind(values)
}

// divide makes groups of rows that follow each other.
func (p *plan) divide(order []int, w way) {
	if len(order) == 0 {
		return
	}
	size := p.by.Size
	switch {
	case size > 0:
	case w == many:
		// All of the calls that may be under way have something to do.
		n := max(p.call.Concurrency, 1)
		size = min(manyRows, (len(order)+n-1)/n)
	default:
		size = listRows
	}
	start, bytes := 0, 0
	for end, i := range order {
		length := len(p.rows[i].Args) + len("{},")
		if end > start && (end-start == size || bytes+length > maxBytes) {
			p.groups = append(p.groups, group{w, order[start:end], 0})
			start, bytes = end, 0
		}
		bytes += length
	}
	p.groups = append(p.groups, group{w, order[start:], 0})
}

// run does the groups, so many at a time as the caller wants.
func (p *plan) run(ctx context.Context) {
	n := min(p.call.Concurrency, len(p.groups))
	if n <= 1 {
		w := worker{plan: p}
		for _, g := range p.groups {
			w.do(ctx, g)
		}
		return
	}
	var (
		wg       sync.WaitGroup
		next     atomic.Int64
		once     sync.Once
		panicked any
	)
	for range n {
		wg.Go(func() { // ends when there is no group left
			defer func() {
				if v := recover(); v != nil {
					once.Do(func() { panicked = v })
					next.Store(int64(len(p.groups)))
				}
			}()
			w := worker{plan: p}
			for i := next.Add(1) - 1; i < int64(len(p.groups)); i = next.Add(1) - 1 {
				w.do(ctx, p.groups[i])
			}
		})
	}
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
}
