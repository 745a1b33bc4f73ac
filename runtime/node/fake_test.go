package node

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestMain(m *testing.M) {
	processMain()
	os.Exit(m.Run())
}

// A fakePool answers as invoke says; without it, it is an echo of the first file, or of the
// arguments.
type fakePool struct {
	invoke func(ctx context.Context, req actions.Request) (actions.Response, error)
	warm   func(ctx context.Context, model string, n int) error

	mu    sync.Mutex // guards what follows
	infos map[string]json.RawMessage
	stats []actions.PoolStats
	said  []string
}

func (p *fakePool) Invoke(ctx context.Context, req actions.Request) (actions.Response, error) {
	if p.invoke != nil {
		return p.invoke(ctx, req)
	}
	return p.echo(req)
}

func (p *fakePool) echo(req actions.Request) (actions.Response, error) {
	data := []byte(req.Args)
	contentType := "application/json"
	if len(req.Files) > 0 {
		data, contentType = req.Files[0].Data, req.Files[0].ContentType
	}
	return actions.Response{ContentType: contentType, Data: append(req.Buffer[:0], data...)}, nil
}

func (p *fakePool) Info(model string) json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.infos[model]
}

func (p *fakePool) Stats() []actions.PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.stats)
}

func (p *fakePool) Warm(ctx context.Context, model string, n int) error {
	p.say("warm " + model)
	if p.warm != nil {
		return p.warm(ctx, model, n)
	}
	return nil
}

func (p *fakePool) Keep(_ context.Context, model string, n int) error {
	p.say("keep " + model + " " + string(rune('0'+n)))
	return nil
}

func (p *fakePool) Cool(model string) { p.say("cool " + model) }

func (p *fakePool) say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, what)
}

// heard returns what the pool was told.
func (p *fakePool) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.said)
}

// fakeCatalog has every model of a name without "no".
type fakeCatalog struct{}

func (fakeCatalog) Models(context.Context) ([]actions.Model, error) {
	return []actions.Model{{Name: "echo", Runtime: actions.ONNX}}, nil
}

func (fakeCatalog) Model(_ context.Context, name string) (actions.Model, error) {
	if name == "none" {
		return actions.Model{}, actions.Errorf(actions.NotFound, "there is no model %q", name)
	}
	return actions.Model{Name: name, Runtime: actions.ONNX, Env: map[string]string{"SECRET": "1"}}, nil
}

func (fakeCatalog) Import(_ context.Context, s actions.Source) (actions.Model, error) {
	if len(s.Data) == 0 {
		return actions.Model{}, actions.Errorf(actions.Invalid, "there is none")
	}
	return actions.Model{Name: s.Name, Runtime: actions.Python, Env: s.Env}, nil
}
