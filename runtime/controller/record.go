package controller

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// An activationSummary is an activation in a list. One of a trigger has no end.
type activationSummary struct {
	Namespace   string          `json:"namespace"`
	Name        string          `json:"name"`
	Version     string          `json:"version"`
	Publish     bool            `json:"publish"`
	Annotations whisk.KeyValues `json:"annotations"`
	ID          string          `json:"activationId"`
	Cause       string          `json:"cause,omitempty"`
	Start       int64           `json:"start"`
	End         *int64          `json:"end,omitempty"`
	Duration    *int64          `json:"duration,omitempty"`
	StatusCode  *int            `json:"statusCode,omitempty"`
}

// recordOf is an activation on disk.
func recordOf(a whisk.Activation, logs []string, path string) (store.Record, error) {
	a.Logs = []string{}
	s := activationSummary{
		Namespace: a.Namespace, Name: a.Name, Version: a.Version, Publish: a.Publish,
		Annotations: a.Annotations, ID: a.ID, Cause: a.Cause, Start: a.Start,
	}
	if a.End != 0 {
		s.End, s.Duration, s.StatusCode = &a.End, &a.Duration, &a.Response.Code
	}
	r := store.Record{
		Namespace: a.Namespace, ID: a.ID, Name: a.Name, Path: path, Start: time.UnixMilli(a.Start),
	}
	var err error
	if r.Summary, err = encode(s); err != nil {
		return r, err
	}
	if r.Doc, err = encode(a); err != nil {
		return r, err
	}
	if len(logs) > 0 {
		r.Logs, err = encode(logs)
	}
	return r, err
}

// read reads an activation from the disk.
func read(r store.Record) (whisk.Activation, error) {
	var a whisk.Activation
	err := json.Unmarshal(r.Doc, &a)
	if err == nil && len(r.Logs) > 0 {
		err = json.Unmarshal(r.Logs, &a.Logs)
	}
	if err != nil {
		return a, broken("activation "+r.ID, err)
	}
	return a, nil
}

// Activation returns an activation of the caller that has ended, with its logs. The error
// is NotFound or that of the store.
func (c *Controller) Activation(_ context.Context, caller, id string) (whisk.Activation, error) {
	r, err := c.cfg.Store.Record(caller, id)
	if actions.CodeOf(err) == actions.NotFound {
		return whisk.Activation{}, notFound()
	}
	if err != nil {
		return whisk.Activation{}, err
	}
	return read(r)
}

// Activations lists activations of the caller that have ended, the latest first: with
// q.Docs as Documents of the list.
func (c *Controller) Activations(_ context.Context, caller string, q whisk.ActivationQuery) (whisk.Listing, error) {
	if q.Count {
		n, err := c.cfg.Store.CountActivations(caller, q)
		return whisk.Listing{Count: n}, err
	}
	var list whisk.Listing
	if q.Docs {
		list.Documents = c.documents(caller, q)
		return list, nil
	}
	err := c.cfg.Store.Activations(caller, q, func(r store.Record) bool {
		list.Items = append(list.Items, json.RawMessage(r.Summary))
		return true
	})
	return list, err
}

// endPending ends what a server that died had accepted.
func (c *Controller) endPending() error {
	left, err := c.cfg.Store.Pending()
	if err != nil {
		return err
	}
	begun := left[:0:0]
	for _, p := range left {
		if p.Waits {
			c.waiting = append(c.waiting, p)
		} else {
			begun = append(begun, p)
		}
	}
	left, c.background = begun, len(c.waiting)
	errs := make([]error, len(left))
	var all sync.WaitGroup
	for i, p := range left { // at once, so that they are written together
		all.Go(func() { errs[i] = c.endOne(p, endedBeforeDone) })
	}
	all.Wait()
	if len(left) > 0 {
		c.log.Warn("activations were under way when the server ended", "activations", len(left))
	}
	return errors.Join(errs...)
}

// endOne ends an activation that was accepted by a server that has died, and says why.
func (c *Controller) endOne(p store.Pending, why string) error {
	var a whisk.Activation
	if err := json.Unmarshal(p.Doc, &a); err != nil {
		a = whisk.Activation{
			ID: p.ID, Namespace: p.Namespace, Name: p.Name, Version: firstVersion, Subject: p.Namespace, Start: p.Start.UnixMilli(),
		}
	}
	a.Response = failure(whisk.WhiskError, why)
	a.End = max(now(), a.Start)
	a.Duration = a.End - a.Start
	r, err := recordOf(a, nil, p.Path)
	if err != nil {
		return err
	}
	return c.cfg.Store.End(context.Background(), r)
}
