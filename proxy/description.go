package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
)

// metadataTime is how long a page waits for what a module says of itself now, before it
// shows what the module said when it was loaded.
const metadataTime = 2 * time.Second

// descriptions keeps what the runtimes reported of models, decoded.
type descriptions struct {
	mu    sync.Mutex // guards known
	known map[string]described
}

type described struct {
	raw json.RawMessage
	is  *actions.Description
}

// decode returns the description of a model that the runtime reported as raw; nil when
// there is none, before the first start.
func (ds *descriptions) decode(model string, raw json.RawMessage) *actions.Description {
	if len(raw) == 0 {
		return nil
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if known, ok := ds.known[model]; ok && bytes.Equal(known.raw, raw) {
		return known.is
	}
	is := new(actions.Description)
	if json.Unmarshal(raw, is) != nil {
		is = nil
	}
	if ds.known == nil {
		ds.known = make(map[string]described)
	}
	ds.known[model] = described{bytes.Clone(raw), is}
	return is
}

// description returns what is known of a model that parses its own arguments, nil when
// it has not been loaded yet.
func (s *Server) description(m actions.Model) *actions.Description {
	if !m.ParsesArguments() {
		return nil
	}
	return s.descriptions.decode(m.Name, s.cfg.Invoker.Info(m.Name))
}

// signature returns what a verb of a model takes, nil when that is not known.
func signature(d *actions.Description, verb actions.Verb) *actions.Signature {
	switch {
	case d == nil:
		return nil
	case verb == actions.Train || verb == actions.ParseTrain:
		return d.Train
	}
	return d.Predict
}

// modelDocument is a model's metadata: DEEPaaS' three fields, what the module says of
// itself, which may change them as upstream's modules can, then what the action says and
// the module does not.
func (s *Server) modelDocument(r *request, m actions.Model, d *actions.Description) *document {
	doc := &document{}
	doc.set("id", m.Name)
	doc.set("name", m.Name)
	self := []link{{Rel: "self", Href: s.at(r) + "/v2/models/" + url.PathEscape(m.Name)}}
	doc.set("links", self)
	if d != nil {
		doc.merge(d.Metadata)
	}
	if m.Runtime == actions.HTTP { // the server behind has a name and routes of its own
		doc.set("id", m.Name)
		doc.set("links", self)
	}
	for _, text := range []struct{ name, value string }{
		{"title", m.Title},
		{"description", m.Description},
		{"version", m.Version},
		{"author", m.Author},
		{"license", m.License},
		{"source", m.Source},
	} {
		if text.value != "" {
			doc.add(text.name, text.value)
		}
	}
	if len(m.Keywords) > 0 {
		doc.add("keywords", m.Keywords)
	}
	doc.add("arguments", arguments(m, d))
	doc.add("runtime", s.runtime(m, d))
	return doc
}

// arguments is what predict takes, as far as that is known.
func arguments(m actions.Model, d *actions.Description) any {
	if d != nil && d.Predict != nil && d.Predict.Parameters != nil {
		return d.Predict.Parameters
	}
	if m.Arguments != nil {
		return m.Arguments
	}
	return []actions.Argument{}
}

// runtime is what the runtime reported of the loaded model, less what stands elsewhere
// in the document; null before that.
func (s *Server) runtime(m actions.Model, d *actions.Description) any {
	if !m.ParsesArguments() {
		return s.cfg.Invoker.Info(m.Name)
	}
	if d == nil {
		return nil
	}
	doc := &document{}
	doc.set("name", m.Runtime)
	doc.set("predict", d.Predict != nil)
	doc.set("train", d.Train)
	if d.Response != nil {
		doc.set("response", d.Response)
	}
	if len(d.Imports) > 0 {
		doc.set("imports", d.Imports)
	}
	return doc
}

// current is the description of a model with the metadata of this moment, if its
// program can say it and does so soon.
func (s *Server) current(ctx context.Context, m actions.Model, r *request) *actions.Description {
	d := s.description(m)
	if d == nil || m.Runtime != actions.Python && m.Runtime != actions.HTTP {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	resp, err := s.cfg.Invoker.Invoke(ctx, preparing(ctx, m.Name, r.id, r.trace))
	r.spend(resp.Timing)
	if err != nil || !isJSON(resp.ContentType) || !bytes.HasPrefix(bytes.TrimSpace(resp.Data), []byte("{")) {
		return d
	}
	now := *d
	now.Metadata = resp.Data
	return &now
}
