package proxy

import (
	"encoding/json"
	"testing"

	"github.com/deepfn/deepfn/actions"
)

// Activate finds the models of Config.Actions, the routes those of Config.Catalog.
func TestActivateOtherModels(t *testing.T) {
	only := oneModel{echoModel("only")}
	s, _ := newServer(t, Config{Catalog: only, Actions: fakeCatalog{}, Model: "only"})
	resp, err := s.Activate(t.Context(), actions.Activation{Model: "echo", Value: json.RawMessage(`{"text":"a"}`)})
	if err != nil || string(resp.Data) != `{"text":"a"}` {
		t.Errorf("got %s, %v", resp.Data, err)
	}
	if _, err = s.Activate(t.Context(), actions.Activation{Model: "only"}); actions.CodeOf(err) != actions.NotFound {
		t.Errorf("a model that Actions has not: got %v", err)
	}
	if got := post(t, s, "/v2/models/echo/predict/", `{"text":"a"}`); got.status != 404 {
		t.Errorf("predict: got %d %s", got.status, got.body)
	}
	wantResponse(t, post(t, s, "/run", `{"value":{"text":"a"}}`), 200, `{"text":"a"}…`)
}
