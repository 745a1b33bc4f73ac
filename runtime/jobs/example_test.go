package jobs_test

import (
	"context"
	"fmt"
	"os"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/jobs"
)

// A trainer is a worker that trains.
type trainer struct{ output func(actions.LogLine) }

func (t trainer) Call(context.Context, actions.Request) (actions.Response, error) {
	t.output(actions.LogLine{Stream: actions.Stdout, Text: "deepfn-progress: 100% epoch 3 of 3"})
	return actions.Response{ContentType: "application/json", Data: []byte(`{"accuracy":0.97}`)}, nil
}

func (t trainer) Close() error { return nil }

func Example() {
	dir, err := os.MkdirTemp("", "jobs")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ended := make(chan struct{})
	s, err := jobs.Open(jobs.Config{
		Dir: dir,
		Start: func(_ context.Context, _ actions.Job, out jobs.Output) (jobs.Instance, error) {
			return closer{trainer{out.Line}, ended}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	job, err := s.Submit(ctx, actions.Request{Model: "digits", Verb: actions.Train}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(job.State)
	<-ended
	job, _ = s.Job(ctx, "digits", job.ID)
	fmt.Println(job.State, job.Progress.Fraction, job.Progress.Text)
	fmt.Println(string(job.Result))
	if err := s.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// queued
	// done 1 epoch 3 of 3
	// {"accuracy":0.97}
}

// A closer says when the worker is closed.
type closer struct {
	trainer
	closed chan struct{}
}

func (c closer) Close() error { close(c.closed); return nil }
