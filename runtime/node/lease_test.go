package node

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestQuestions(t *testing.T) {
	info := json.RawMessage(`{"a":1}`)
	pool := &fakePool{
		infos: map[string]json.RawMessage{"m": info},
		stats: []actions.PoolStats{{Model: "m", Idle: 1, From: map[actions.Tier]int64{actions.TierWarm: 3}}, {Model: "other"}},
	}
	r := serve(t, Config{Pool: pool}).relay(t)
	models, err := r.Models(t.Context())
	if err != nil || len(models) != 1 || models[0].Name != "echo" {
		t.Errorf("Models: got %v, %v", models, err)
	}
	m, err := r.Model(t.Context(), "m")
	if err != nil || m.Name != "m" || m.Env != nil {
		t.Errorf("Model: got %+v, %v; want m without what its program has in its environment", m, err)
	}
	_, err = r.Model(t.Context(), "none")
	wantCode(t, err, actions.NotFound)
	if got := r.Info("m"); string(got) != string(info) {
		t.Errorf("Info: got %s, want %s", got, info)
	}
	if got := r.Info("other"); got != nil {
		t.Errorf("Info of a model that was not loaded: got %s", got)
	}
	if err := r.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	r2 := relayTo(t, RelayConfig{Path: r.cfg.Path})
	if _, err := r2.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pool.stats[:1], r2.Stats()); diff != "" {
		t.Errorf("the stats of what the relay has used (-want +got):\n%s", diff)
	}
}

func TestInfoComesWithAnswers(t *testing.T) {
	pool := &fakePool{infos: map[string]json.RawMessage{}}
	r := serve(t, Config{Pool: pool}).relay(t)
	for _, info := range []string{"", `{"v":1}`, `{"v":2}`, ""} {
		pool.mu.Lock()
		if pool.infos["m"] = json.RawMessage(info); info == "" {
			pool.infos["m"] = nil
		}
		pool.mu.Unlock()
		if _, err := r.Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		got := string(r.infos["m"])
		r.mu.Unlock()
		if got != info {
			t.Errorf("after the call the relay knows %q, want %q", got, info)
		}
	}
}

func TestImportedCode(t *testing.T) {
	s := serve(t, Config{})
	a, b := s.relay(t), s.relay(t)
	source := actions.Source{Name: "hello", Main: "main", Data: []byte("def main(args): return args"), Env: map[string]string{"K": "v"}}
	m, err := a.Import(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Invoke(t.Context(), actions.Request{Model: m.Name}); err != nil {
		t.Error(err)
	}
	_, err = b.Invoke(t.Context(), actions.Request{Model: m.Name})
	wantCode(t, err, actions.NotFound)
	_, err = b.Model(t.Context(), m.Name)
	wantCode(t, err, actions.NotFound)
	wantCode(t, b.Warm(t.Context(), m.Name, 1), actions.NotFound)
	other := source
	other.Env = map[string]string{"K": "w"}
	if m2, err := b.Import(t.Context(), other); err != nil || m2.Name == m.Name {
		t.Errorf("code with another environment: got %s, %v; want another name", m2.Name, err)
	}
	if m3, err := b.Import(t.Context(), source); err != nil || m3.Name != m.Name {
		t.Errorf("the same code: got %s, %v; want %s", m3.Name, err, m.Name)
	}
	_ = a.Close()
	eventually(t, "one relay", func() bool { return s.Relays() == 1 })
	if _, err := b.Invoke(t.Context(), actions.Request{Model: m.Name}); err != nil {
		t.Errorf("code that another relay holds too: %v", err)
	}
	_ = b.Close()
	eventually(t, "that the code is forgotten", func() bool {
		return slices.Contains(s.pool.heard(), "forget "+m.Name)
	})
	c := s.relay(t)
	_, err = c.Import(t.Context(), actions.Source{})
	wantCode(t, err, actions.Invalid)
}

func TestCodeIsKept(t *testing.T) {
	s := serve(t, Config{KeepCode: time.Hour})
	a := s.relay(t)
	source := actions.Source{Data: []byte("code")}
	m, err := a.Import(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	eventually(t, "no relay", func() bool { return s.Relays() == 0 })
	b := s.relay(t)
	if again, err := b.Import(t.Context(), source); err != nil || again.Name != m.Name {
		t.Errorf("got %s, %v", again.Name, err)
	}
	if slices.Contains(s.pool.heard(), "forget "+m.Name) {
		t.Error("the code was forgotten, and its instance with it")
	}
}

func TestWarmLastsWithTheLease(t *testing.T) {
	s := serve(t, Config{})
	a, b := s.relay(t), s.relay(t)
	eventually(t, "two relays", func() bool { return a.Ready() == nil && b.Ready() == nil })
	if err := a.Warm(t.Context(), "m", 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Warm(t.Context(), "m", 2); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	eventually(t, "fewer instances", func() bool { return s.pool.heard()[len(s.pool.heard())-1] == "keep m 1" })
	a.Cool("m")
	eventually(t, "no interest", func() bool { return slices.Contains(s.pool.heard(), "cool m") })
	a.Cool("m")
	want := []string{"keep m 1", "warm m", "keep m 2", "warm m", "keep m 1", "cool m"}
	if diff := cmp.Diff(want, s.pool.heard()); diff != "" {
		t.Errorf("what the pool was told (-want +got):\n%s", diff)
	}
}

func TestWarmFails(t *testing.T) {
	pool := &fakePool{warm: func(context.Context, string, int) error {
		return &actions.Error{Code: actions.Failed, Msg: "no weights", Err: actions.ErrDiedLoading}
	}}
	s := serve(t, Config{Pool: pool})
	err := s.relay(t).Warm(t.Context(), "m", 1)
	wantCode(t, err, actions.Failed, "no weights")
	if !errors.Is(err, actions.ErrDiedLoading) {
		t.Error("it is not said that the process died")
	}
}

func TestDrain(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	pool := &fakePool{invoke: func(_ context.Context, req actions.Request) (actions.Response, error) {
		if req.ID == "slow" {
			close(began)
			<-release
		}
		return actions.Response{Data: []byte("1")}, nil
	}}
	s := serve(t, Config{Pool: pool})
	r := relayTo(t, RelayConfig{Path: s.path, Patience: 50 * time.Millisecond})
	slow := make(chan error, 1)
	go func() {
		_, err := r.Invoke(t.Context(), actions.Request{Model: "m", ID: "slow"})
		slow <- err
	}()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	eventually(t, "that the relay knows", func() bool { return r.Ready() != nil })
	_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
	if e := wantCode(t, err, actions.Unavailable, s.path); e.RetryAfter == 0 {
		t.Error("the error does not say when to try again")
	}
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there still: %v", err)
	}
	// Another node takes the place while the first still works.
	second := serveAt(t, s.path, Config{})
	if _, err := relayTo(t, RelayConfig{Path: s.path}).Invoke(t.Context(), actions.Request{Model: "m"}); err != nil {
		t.Error(err)
	}
	eventually(t, "the relay at the second node", func() bool { return second.Relays() == 2 })
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	began := make(chan struct{})
	pool := &fakePool{invoke: func(ctx context.Context, _ actions.Request) (actions.Response, error) {
		close(began)
		<-ctx.Done()
		return actions.Response{}, ctx.Err()
	}}
	s := serve(t, Config{Pool: pool, Grace: time.Millisecond})
	r := s.relay(t)
	slow := make(chan error, 1)
	go func() {
		_, err := r.Invoke(t.Context(), actions.Request{Model: "m"})
		slow <- err
	}()
	<-began
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	wantCode(t, <-slow, actions.Unavailable, "not sent again")
}
