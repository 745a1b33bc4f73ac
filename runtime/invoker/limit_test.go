package invoker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// A limit counts from the call: neither the cold start nor the wait for the call before
// is in it, nor is the most time that a request without one may take.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{Timeout: time.Second})
		defer closeNow(t, v)
		var wg sync.WaitGroup
		began := time.Now()
		for range 4 {
			wg.Go(func() {
				req := actions.Request{Model: "m", Args: json.RawMessage(`{"Sleep":400000000}`), Limit: 500 * time.Millisecond}
				if _, err := v.Invoke(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 1700*time.Millisecond {
			t.Errorf("took %v", took)
		}
		for limit, want := range map[time.Duration]time.Duration{300 * time.Millisecond: 300 * time.Millisecond, time.Hour: time.Second} {
			began := time.Now()
			resp, err := v.Invoke(t.Context(), actions.Request{Model: "m", Args: json.RawMessage(`{"Sleep":3000000000}`), Limit: limit})
			if actions.CodeOf(err) != actions.Deadline || time.Since(began) != want || resp.Timing.Run != want {
				t.Errorf("%v: after %v, %+v: %v", limit, time.Since(began), resp.Timing, err)
			}
			time.Sleep(time.Minute) // until it has settled
		}
	})
}

// An instance that notes what it is asked.
type noting struct {
	*fake
	req *actions.Request
}

func (n noting) Call(ctx context.Context, req actions.Request) (actions.Response, error) {
	*n.req = req
	return n.fake.Call(ctx, req)
}

// The text of the platform is the end of the call, as it is known when that begins.
func TestLimitDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{startTime: 3 * time.Second}
		var got actions.Request
		v := New(Config{Catalog: f, Start: func(ctx context.Context, m actions.Model, devices []string) (Instance, error) {
			inst, err := f.start(ctx, m, devices)
			if err != nil {
				return nil, err
			}
			return noting{inst.(*fake), &got}, nil
		}})
		defer closeNow(t, v)
		texts := []actions.Text{{Origin: actions.FromQuery, Name: "__OW_DEADLINE", Value: "1"}, {Origin: actions.FromContext, Name: "__OW_DEADLINE", Value: "2"}}
		began := time.Now()
		if _, err := v.Invoke(t.Context(), actions.Request{Model: "m", Texts: texts, Limit: time.Minute}); err != nil {
			t.Fatal(err)
		}
		want := strconv.FormatInt(began.Add(63*time.Second).UnixMilli(), 10)
		if got.Texts[0].Value != "1" || got.Texts[1].Value != want || texts[1].Value != "2" {
			t.Errorf("got %+v of %+v, want %s", got.Texts, texts, want)
		}
		if _, err := v.Invoke(t.Context(), actions.Request{Model: "m", Texts: texts}); err != nil || got.Texts[1].Value != "2" {
			t.Errorf("without a limit: got %+v, %v", got.Texts, err)
		}
	})
}

// A model that is an exception has as many instances as it may.
func TestInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newFleet(Config{MaxInstances: 2, Instances: func(m actions.Model) int {
			return map[string]int{"function": 3}[m.Name]
		}})
		defer closeNow(t, v)
		var wg sync.WaitGroup
		for range 5 {
			for _, model := range []string{"function", "m"} {
				wg.Go(func() {
					if _, err := v.Invoke(t.Context(), actions.Request{Model: model, Args: json.RawMessage(`{"Sleep":1000000000}`)}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		for i, want := range []int{3, 2} {
			if st := v.Stats()[i]; st.Idle != want || st.MaxInstances != want {
				t.Errorf("got %+v, want %d", st, want)
			}
		}
	})
}

// Begin is called once there is an instance, and decides whether it is called.
func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f := newFleet(Config{})
		defer closeNow(t, v)
		no := errors.New("no")
		for _, want := range []error{nil, no, nil} {
			req := actions.Request{Model: "m", Begin: func(context.Context) error {
				if len(f.started) != 1 {
					t.Errorf("%d instances", len(f.started))
				}
				return want
			}}
			resp, err := v.Invoke(t.Context(), req)
			if !errors.Is(err, want) || (len(resp.Data) == 0) != (want != nil) {
				t.Errorf("got %s, %v, want %v", resp.Data, err, want)
			}
		}
		if st := v.Stats()[0]; st.Idle != 1 {
			t.Errorf("got %+v", st)
		}
	})
}
