package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
)

// maxLate is how much later than one that is known an activation may be stored which
// began before it.
const maxLate = 15 * time.Minute

// Start has an action, [package/]name of a namespace, run with a JSON object, and returns when that
// is accepted.
func (c *Client) Start(ctx context.Context, namespace, name string, args json.RawMessage) error {
	return c.call(ctx, request{
		what: "action " + name, method: http.MethodPost, body: args, bare: true,
		path: "namespaces/" + url.PathEscape(namespace) + "/actions/" + escaped(name) + "?blocking=false",
	}, nil)
}

// Invoke runs an action, [package/]name, and waits until it has ended. An action that
// failed is an activation too, with its status, not an error. args is a JSON object; nil
// means {}.
func (c *Client) Invoke(ctx context.Context, name string, args json.RawMessage) (whisk.Activation, error) {
	if args == nil {
		args = json.RawMessage("{}")
	}
	var activation whisk.Activation
	what := "action " + name
	a, err := c.send(ctx, request{
		what: what, method: http.MethodPost, body: args,
		path: "actions/" + escaped(name) + "?blocking=true&result=false",
	})
	if err != nil {
		return activation, err
	}
	switch a.status {
	case http.StatusOK, http.StatusBadGateway, http.StatusInternalServerError, http.StatusAccepted:
	default:
		return activation, c.refused(what, a)
	}
	if err := json.Unmarshal(a.body, &activation); err != nil || activation.ID == "" {
		return activation, c.refused(what, a)
	}
	if a.status != http.StatusAccepted {
		return activation, nil
	}
	return c.await(ctx, activation.ID) // it goes on without us
}

// await asks for an activation until it has ended.
func (c *Client) await(ctx context.Context, id string) (whisk.Activation, error) {
	for {
		var activation whisk.Activation
		found, err := c.lookup(ctx, request{what: "activation " + id, path: "activations/" + url.PathEscape(id)}, &activation)
		if found || err != nil {
			return activation, err
		}
		if err := c.sleep(ctx); err != nil {
			return activation, err
		}
	}
}

// sleep waits between two questions.
func (c *Client) sleep(ctx context.Context) error {
	timer := time.NewTimer(c.cfg.Poll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return c.noAnswer(ctx, ctx.Err())
	}
}

// Activations returns the last activations of an action, [package/]name, the oldest
// first, with their logs; last is at most 200.
func (c *Client) Activations(ctx context.Context, name string, last int) ([]whisk.Activation, error) {
	list, err := c.activations(ctx, url.Values{"name": {name}, "limit": {strconv.Itoa(last)}})
	if err != nil {
		return nil, err
	}
	slices.Reverse(list)
	for i := range list {
		if err := c.addLogs(ctx, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// activations returns whole documents, the latest first.
func (c *Client) activations(ctx context.Context, query url.Values) ([]whisk.Activation, error) {
	query.Set("docs", "true")
	query.Set("skip", "0")
	var list []whisk.Activation
	err := c.call(ctx, request{what: "activations", path: "activations?" + query.Encode()}, &list)
	return list, err
}

// addLogs asks for the logs of an activation whose document has none: a platform may keep
// them elsewhere.
func (c *Client) addLogs(ctx context.Context, a *whisk.Activation) error {
	if len(a.Logs) > 0 {
		return nil
	}
	var doc struct {
		Logs []string `json:"logs"`
	}
	_, err := c.lookup(ctx, request{what: "logs of " + a.ID, path: "activations/" + url.PathEscape(a.ID) + "/logs"}, &doc)
	a.Logs = doc.Logs
	return err
}

// Follow gives each activation of an action that begins after now, with its logs, to show,
// until ctx ends, which is no error, or the platform refuses.
func (c *Client) Follow(ctx context.Context, name string, now time.Time, show func(whisk.Activation)) error {
	shown := map[string]int64{} // id to start
	latest := now.UnixMilli()
	for ctx.Err() == nil {
		since := max(now.UnixMilli(), latest-maxLate.Milliseconds())
		list, err := c.activations(ctx, url.Values{"name": {name}, "limit": {strconv.Itoa(whisk.MaxLimit)}, "since": {strconv.FormatInt(since, 10)}})
		if err == nil {
			latest, err = c.showNew(ctx, list, shown, latest, show)
		}
		if err != nil && actions.CodeOf(err) != actions.Busy && ctx.Err() == nil {
			return err
		}
		for id, start := range shown {
			if start < latest-maxLate.Milliseconds() {
				delete(shown, id)
			}
		}
		_ = c.sleep(ctx) // ends with ctx
	}
	return nil
}

// showNew shows the activations that were not shown yet, the oldest first, and returns the
// start of the latest.
func (c *Client) showNew(ctx context.Context, list []whisk.Activation, shown map[string]int64, latest int64, show func(whisk.Activation)) (int64, error) {
	slices.Reverse(list)
	for _, a := range list {
		if _, ok := shown[a.ID]; ok {
			continue
		}
		if err := c.addLogs(ctx, &a); err != nil {
			return latest, err
		}
		shown[a.ID], latest = a.Start, max(latest, a.Start)
		show(a)
	}
	return latest, nil
}

// Summary is an activation in one line.
func Summary(a whisk.Activation) string {
	how := whisk.StatusName(a.Response.Code)
	start := time.UnixMilli(a.Start).UTC().Format("2006-01-02T15:04:05.000Z")
	text := fmt.Sprintf("%s %s %s %s %d ms", start, a.ID, a.Name, how, a.Duration)
	if raw := a.Annotations.Lookup("initTime"); raw != nil {
		text += fmt.Sprintf(" (cold: %s ms of them to load)", raw)
	}
	return text
}
