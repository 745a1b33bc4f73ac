package controller

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/runtime/store"
)

// firstVersion is the version of what is made.
const firstVersion = "0.0.1"

// codeCollection holds the code of actions.
const codeCollection whisk.Collection = "code"

// resolved returns the name with the caller's namespace in the place of "_".
func resolved(caller string, n whisk.Name) whisk.Name {
	if n.Namespace == whisk.Own {
		n.Namespace = caller
	}
	return n
}

func key(c whisk.Collection, n whisk.Name) store.Key {
	return store.Key{Collection: c, Namespace: n.Namespace, Package: n.Package, Name: n.Entity}
}

// encode writes a document.
func encode(doc any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return nil, broken("encode", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// load reads an entity. If it is absent, the error is NotFound, or Conflict when another
// collection has the name: they have them in common.
func load[T any](tx *store.Tx, k store.Key) (T, error) {
	var doc T
	raw := tx.Entity(k)
	if raw == nil {
		return doc, absent(tx, k)
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return doc, broken(string(k.Collection)+" "+k.Name, err)
	}
	return doc, nil
}

// absent says why an entity is not there.
func absent(tx *store.Tx, k store.Key) error {
	if k.Package == "" {
		for _, other := range []whisk.Collection{whisk.Actions, whisk.Triggers, whisk.Rules, whisk.Packages} {
			k.Collection = other
			if tx.Entity(k) != nil {
				return conflict(notInCollection)
			}
		}
	}
	return notFound()
}

// save keeps an entity.
func save(tx *store.Tx, k store.Key, doc any) error {
	raw, err := encode(doc)
	if err != nil {
		return err
	}
	return tx.PutEntity(k, raw)
}

// put makes an entity or, with overwrite, changes it.
func put[T any](tx *store.Tx, k store.Key, overwrite bool, create func() (T, error), change func(old T) (T, error)) (T, error) {
	doc, err := load[T](tx, k)
	switch {
	case err == nil && !overwrite:
		return doc, conflict(alreadyExists)
	case err == nil:
		doc, err = change(doc)
	case actions.CodeOf(err) == actions.NotFound:
		doc, err = create()
	}
	if err != nil {
		return doc, err
	}
	return doc, save(tx, k, doc)
}

// now is the time of a change, in milliseconds since 1970.
func now() int64 { return time.Now().UnixMilli() }

// Put makes an entity or, with overwrite, changes it: what body does not say stays. It
// returns the document. The errors are Invalid, Conflict (it is there, or its name is
// another collection's), Forbidden for a namespace that is not the caller's, NotFound for a
// package that is not there, and TooLarge.
func (c *Controller) Put(ctx context.Context, caller string, col whisk.Collection, n whisk.Name, body json.RawMessage, overwrite bool) (any, error) {
	n = resolved(caller, n)
	if n.Namespace != caller {
		return nil, forbidden()
	}
	for _, segment := range []string{cmp.Or(n.Package, n.Entity), n.Entity} {
		if err := whisk.CheckSegment(segment); err != nil {
			return nil, invalid("%s", err)
		}
	}
	if n.Package != "" && col != whisk.Actions {
		return nil, notFound()
	}
	switch col {
	case whisk.Actions:
		return c.putAction(ctx, n, body, overwrite)
	case whisk.Triggers:
		return c.putTrigger(n, body, overwrite)
	case whisk.Rules:
		return c.putRule(ctx, n, body, overwrite)
	case whisk.Packages:
		return c.putPackage(n, body, overwrite)
	}
	return nil, notFound()
}

// Entity returns the document of an entity: an action with the parameters of its package,
// and its code if that is asked for; a binding with what is in its package. The errors are
// NotFound, Conflict if the name is another collection's, and Forbidden.
func (c *Controller) Entity(ctx context.Context, caller string, col whisk.Collection, n whisk.Name, code bool) (doc any, err error) {
	n = resolved(caller, n)
	if n.Entity == "" || n.Package != "" && col != whisk.Actions {
		return nil, notFound()
	}
	if err := c.mayRead(caller, col, n); err != nil {
		return nil, err
	}
	err = c.cfg.Store.View(func(tx *store.Tx) (err error) {
		switch col {
		case whisk.Actions:
			doc, err = c.actionDocument(ctx, tx, n, code)
		case whisk.Triggers:
			doc, err = load[whisk.Trigger](tx, key(col, n))
		case whisk.Rules:
			doc, err = ruleDocument(tx, n)
		case whisk.Packages:
			doc, err = c.packageDocument(ctx, tx, n)
		default:
			err = notFound()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// mayRead refuses who may not see an entity: another's that is in no package.
func (c *Controller) mayRead(caller string, col whisk.Collection, n whisk.Name) error {
	switch {
	case n.Namespace == caller:
		return nil
	case n.Namespace != whisk.System:
		return forbidden()
	case col == whisk.Packages || col == whisk.Actions && n.Package != "":
		return nil
	}
	return forbidden()
}

// Delete removes an entity and returns its last document, an action's without its code.
// force removes a package with what is in it. The errors are NotFound, Conflict (a package
// is not empty, or the name is another collection's), Invalid for an action of a binding,
// and Forbidden.
func (c *Controller) Delete(_ context.Context, caller string, col whisk.Collection, n whisk.Name, force bool) (doc any, err error) {
	n = resolved(caller, n)
	if n.Namespace != caller {
		return nil, forbidden()
	}
	if n.Entity == "" || n.Package != "" && col != whisk.Actions {
		return nil, notFound()
	}
	err = c.cfg.Store.Update(func(tx *store.Tx) (err error) {
		switch col {
		case whisk.Actions:
			doc, err = deleteAction(tx, n)
		case whisk.Triggers:
			doc, err = load[whisk.Trigger](tx, key(col, n))
		case whisk.Rules:
			doc, err = deleteRule(tx, n)
		case whisk.Packages:
			doc, err = deletePackage(tx, n, force)
		default:
			err = notFound()
		}
		if err != nil {
			return err
		}
		return tx.DeleteEntity(key(col, n))
	})
	if err != nil {
		return nil, err
	}
	if col == whisk.Actions {
		c.abandon(n)
	}
	return doc, nil
}

// A listed entity is sorted by when it was changed.
type listed struct {
	name    string
	updated int64
	doc     any
}

// List lists a collection of a namespace, what was changed last first: summaries, but rules
// whole and without their status. n.Package limits actions to those of a package. Of
// another namespace than the caller's there are only packages that are published and what
// is in them. The errors are NotFound, Forbidden and that of the store.
func (c *Controller) List(ctx context.Context, caller string, col whisk.Collection, n whisk.Name, page whisk.Page) (whisk.Listing, error) {
	n = resolved(caller, n)
	if n.Namespace != caller && n.Namespace != whisk.System {
		if col == whisk.Packages {
			return whisk.Listing{}, nil // none of them is public
		}
		return whisk.Listing{}, forbidden()
	}
	var all []listed
	err := c.cfg.Store.View(func(tx *store.Tx) (err error) {
		all, err = c.list(ctx, tx, col, n)
		return err
	})
	if err != nil {
		return whisk.Listing{}, err
	}
	slices.SortStableFunc(all, func(a, b listed) int {
		return cmp.Or(cmp.Compare(b.updated, a.updated), cmp.Compare(a.name, b.name))
	})
	all = all[min(max(page.Skip, 0), len(all)):]
	if page.Count {
		return whisk.Listing{Count: len(all)}, nil
	}
	if page.Limit > 0 {
		all = all[:min(page.Limit, len(all))]
	}
	items := make([]any, len(all))
	for i, l := range all {
		items[i] = l.doc
	}
	return whisk.Listing{Items: items}, nil
}

func (c *Controller) list(ctx context.Context, tx *store.Tx, col whisk.Collection, n whisk.Name) ([]listed, error) {
	if n.Namespace == whisk.System {
		return c.listSystem(ctx, col, n)
	}
	switch col {
	case whisk.Actions:
		return c.listActions(ctx, tx, n)
	case whisk.Triggers:
		return listAll(tx, col, n, func(t whisk.Trigger) listed {
			return listed{t.Name, t.Updated, summary{t.Namespace, t.Name, t.Version, t.Publish, t.Annotations, t.Updated}}
		})
	case whisk.Rules:
		return listAll(tx, col, n, func(r whisk.Rule) listed { return listed{r.Name, r.Updated, r} })
	case whisk.Packages:
		return listAll(tx, col, n, func(p whisk.Package) listed { return listed{p.Name, p.Updated, summarizePackage(p)} })
	}
	return nil, notFound()
}

// A summary is an entity in a list.
type summary struct {
	Namespace   string          `json:"namespace"`
	Name        string          `json:"name"`
	Version     string          `json:"version"`
	Publish     bool            `json:"publish"`
	Annotations whisk.KeyValues `json:"annotations"`
	Updated     int64           `json:"updated"`
}

// listAll reads a collection of a namespace, in the order of names, in packages and not.
func listAll[T any](tx *store.Tx, col whisk.Collection, n whisk.Name, show func(T) listed) ([]listed, error) {
	var all []listed
	var wrong error
	each := func(k store.Key, raw []byte) bool {
		var doc T
		if err := json.Unmarshal(raw, &doc); err != nil {
			wrong = broken(string(col)+" "+k.Name, err)
			return false
		}
		all = append(all, show(doc))
		return true
	}
	var err error
	if n.Package != "" {
		err = tx.Entities(col, n.Namespace, n.Package, each)
	} else {
		err = tx.AllEntities(col, n.Namespace, each)
	}
	if err == nil {
		err = wrong
	}
	return all, err
}
