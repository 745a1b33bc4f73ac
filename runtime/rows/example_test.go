package rows_test

import (
	"context"
	"fmt"
	"os"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// The way of a chunk: read some rows, make arguments of them, write the answers.
func Example() {
	ctx := context.Background()
	store := storeOf("s3://b/people.csv", []byte("id,years\na,7\nb,9\n"))
	s, err := rows.Open(ctx, store, actions.BatchInput{URL: "s3://b/people.csv", Key: "id"})
	if err != nil {
		panic(err)
	}
	part, err := s.Read(ctx, nil, 0, rows.Limit{Rows: 1000, Bytes: 1 << 20})
	if err != nil {
		panic(err)
	}
	m := rows.NewMapping(&actions.Batch{Map: map[string]string{"age": "years"}}, "")
	w, err := rows.NewWriter(os.Stdout, actions.BatchOutput{Join: []string{"years"}}, nil)
	if err != nil {
		panic(err)
	}
	for i := range part.Rows {
		args, _, err := m.Arguments(&part.Rows[i])
		if err != nil {
			panic(err)
		}
		if err := w.Write(rows.Answer{Row: &part.Rows[i], Data: args}); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	fmt.Println(s.Format(), part.Bytes, s.Size(), part.Next == nil)
	// Output:
	// {"key":"a","years":7,"prediction":{"age":7}}
	// {"key":"b","years":9,"prediction":{"age":9}}
	// csv 17 17 true
}
