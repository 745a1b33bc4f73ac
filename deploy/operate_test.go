package deploy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

func TestRemove(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	deployTo(t, c, deployment(function("ours")))
	p.actions["theirs"] = whisk.Action{Name: "theirs", Namespace: "guest"}
	if removed, err := c.Remove(t.Context(), "ours", false); err != nil || !removed {
		t.Errorf("ours: got %v, %v, want it removed", removed, err)
	}
	if removed, err := c.Remove(t.Context(), "ours", false); err != nil || removed {
		t.Errorf("once more: got %v, %v, want that there is none", removed, err)
	}
	if _, err := c.Remove(t.Context(), "theirs", false); actions.CodeOf(err) != actions.Conflict || p.actions["theirs"].Name == "" {
		t.Errorf("theirs: got %v, want Conflict, and it to stay", err)
	}
	if removed, err := c.Remove(t.Context(), "theirs", true); err != nil || !removed {
		t.Errorf("by force: got %v, %v, want it removed", removed, err)
	}
}

func TestRemovePackage(t *testing.T) {
	all := []string{"action models/a", "action models/b", "package models"}
	for _, test := range []struct {
		name    string
		theirs  bool // an action that is not ours
		bare    bool // the package is not ours
		force   bool
		removed []string
	}{
		{"all of it", false, false, false, all},
		{"something else is in it", true, false, false, all[:2]},
		{"by force", true, false, true, append([]string{"action models/Z"}, all...)},
		{"the package is not ours", false, true, false, all[:2]},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			c := p.connect()
			d := deployment(function("a"), function("b"))
			d.Package = "models"
			deployTo(t, c, d)
			if test.theirs {
				p.actions["models/Z"] = whisk.Action{Name: "Z", Namespace: "guest/models"}
			}
			if test.bare {
				p.packages["models"] = whisk.Package{Name: "models"}
			}
			removed, err := c.RemovePackage(t.Context(), "models", test.force)
			if err != nil || !cmp.Equal(removed, test.removed) {
				t.Errorf("got %q, %v, want %q", removed, err, test.removed)
			}
		})
	}
	p := newPlatform(t)
	if removed, err := p.connect().RemovePackage(t.Context(), "none", false); err != nil || removed != nil {
		t.Errorf("no package: got %q, %v, want nothing", removed, err)
	}
}

// An error in the middle says what is gone already, and the next run does the rest.
func TestRemovePackageInterrupted(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	d := deployment(function("a"), function("b"))
	d.Package = "models"
	deployTo(t, c, d)
	p.fail["DELETE /api/v1/namespaces/_/actions/models/b"] = fault{500, `{"error":"oops","code":"x"}`}
	removed, err := c.RemovePackage(t.Context(), "models", false)
	if err == nil || !cmp.Equal(removed, []string{"action models/a"}) {
		t.Errorf("got %q, %v, want a alone and an error", removed, err)
	}
	if removed, err = c.RemovePackage(t.Context(), "models", false); err != nil || len(removed) != 2 {
		t.Errorf("got %q, %v, want the rest", removed, err)
	}
}

func TestStatus(t *testing.T) {
	code := "def main(args): return {}"
	for _, test := range []struct {
		name  string
		there func(*whisk.Action)
		here  func(*deploy.Function)
		drift []string
	}{
		{"as it is here", nil, nil, nil},
		{"another model here", nil, func(f *deploy.Function) { f.Model.Version = "2" }, []string{"the model here is another one"}},
		{"another deepfn", func(a *whisk.Action) {
			a.Annotations = whisk.KeyValues{kv("deepfn", strings.Replace(string(a.Annotations.Lookup("deepfn")), "9.9.9", "1.0.0", 1))}
		}, nil, []string{"deployed by deepfn 1.0.0, this is 9.9.9"}},
		{"other code there", func(a *whisk.Action) { a.Exec.Code = &code }, nil, []string{"changed there: code"}},
		{"not ours", func(a *whisk.Action) { a.Annotations = nil }, nil, []string{"not deployed by deepfn"}},
		{"its limits are the user's", func(a *whisk.Action) { a.Limits.Memory = 7 }, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			c := p.connect()
			f := function("m")
			d := deployment(f)
			d.Package = "models"
			deployTo(t, c, d)
			if test.there != nil {
				a := p.actions["models/m"]
				test.there(&a)
				p.actions["models/m"] = a
			}
			if test.here != nil {
				test.here(&f)
			}
			s, found, err := c.Status(t.Context(), "models", f)
			if err != nil || !found || !s.Compared || !cmp.Equal(s.Drift, test.drift) {
				t.Errorf("got %q, %v, %v, want %q", s.Drift, found, err, test.drift)
			}
			if s.Name != "models/m" || s.Image != "me/deepfn:1" || s.Version != "0.0.1" {
				t.Errorf("got %+v", s)
			}
		})
	}
	p := newPlatform(t)
	deployTo(t, p.connect(), deployment(function("alone")))
	if s, found, err := p.connect().Action(t.Context(), "alone"); !found || err != nil || s.Compared || s.Model != "alone" || s.Memory != 320 {
		t.Errorf("by its name: got %+v, %v, %v", s, found, err)
	}
	if _, found, err := p.connect().Status(t.Context(), "", function("m")); found || err != nil {
		t.Errorf("not there: got %v, %v", found, err)
	}
}

// Lists go on after the first page, and hold nothing of others.
func TestActions(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	var functions []deploy.Function
	for i := range 230 {
		functions = append(functions, function("m"+strings.Repeat("x", i)))
	}
	d := deployment(functions...)
	d.Package = "models"
	deployTo(t, c, d)
	one := deployment(function("alone"))
	one.Functions[0].Web = deploy.Yes
	deployTo(t, c, one)
	p.actions["theirs"] = whisk.Action{Name: "theirs", Namespace: "guest"}
	all, err := c.Actions(t.Context(), "")
	if err != nil || len(all) != 231 || all[0].Name != "alone" || all[0].URL != p.url+"/api/v1/web/guest/default/alone" {
		t.Fatalf("got %d, %v, want 231 and a URL", len(all), err)
	}
	in, err := c.Actions(t.Context(), "models")
	if err != nil || len(in) != 230 || in[0].Model != "m" || in[0].Release != "9.9.9" {
		t.Fatalf("in the package: got %d, %v, want 230", len(in), err)
	}
}

func TestActivations(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	for range 3 {
		p.record("models/m", whisk.Success, "{}")
	}
	p.record("models/other", whisk.Success, "{}")
	list, err := c.Activations(t.Context(), "models/m", 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("got %d, %v, want 2", len(list), err)
	}
	if got := list[0].Logs[0] + list[1].Logs[0]; !strings.Contains(got, "line 2") || !strings.HasSuffix(got, "line 3") {
		t.Errorf("got %q, want the lines 2 and 3 in this order", got)
	}
	if got := deploy.Summary(list[1]); got != "2030-01-01T00:00:02.000Z 00000000000000000000000000000003 m success 12 ms" {
		t.Errorf("got %q", got)
	}
}

// Follow shows each activation once, goes on when the platform is busy, and ends with the
// caller.
func TestFollow(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	p.record("m", whisk.Success, "{}") // before now: not shown
	now := time.UnixMilli(p.records[0].Start + 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	polls := 0
	p.hook = func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/activations") {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		switch polls++; polls {
		case 1:
			p.record("m", whisk.Success, "{}")
			p.record("m", whisk.DeveloperError, "{}")
		case 2:
			p.fail["GET "+r.URL.Path] = fault{429, `{"error":"Too many requests in the last minute","code":"x"}`}
		case 3:
			p.record("m", whisk.Success, "{}")
		}
	}
	var got []string
	err := c.Follow(ctx, "m", now, func(a whisk.Activation) {
		got = append(got, strings.Join(a.Logs, "")[len("2030-01-01T00:00:00Z stdout: "):])
		if len(got) == 3 {
			cancel()
		}
	})
	if want := []string{"line 2", "line 3", "line 4"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestInvoke(t *testing.T) {
	const post = "POST /api/v1/namespaces/_/actions/m"
	record := func(code int, result string) string {
		a := whisk.Activation{ID: strings.Repeat("a", 32), Name: "m", Response: whisk.Response{Code: code, Result: json.RawMessage(result)}}
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for _, test := range []struct {
		name   string
		answer fault
		code   int
		result string
		err    actions.Code
	}{
		{"success", fault{200, record(whisk.Success, `{"a":1}`)}, whisk.Success, `{"a":1}`, ""},
		{"application error", fault{502, record(whisk.ApplicationError, `{"error":"no image"}`)}, whisk.ApplicationError, `{"error":"no image"}`, ""},
		{"developer error", fault{502, record(whisk.DeveloperError, `{"error":"x"}`)}, whisk.DeveloperError, `{"error":"x"}`, ""},
		{"platform's error", fault{500, record(whisk.WhiskError, `{"error":"x"}`)}, whisk.WhiskError, `{"error":"x"}`, ""},
		{"not finished yet", fault{202, `{"activationId":"00000000000000000000000000000001"}`}, whisk.Success, `{"late":true}`, ""},
		{"a gateway's error", fault{502, "<html>"}, 0, "", actions.Unavailable},
		{"no such action", fault{404, `{"error":"The requested resource does not exist.","code":"x"}`}, 0, "", actions.NotFound},
		{"too many", fault{429, `{"error":"Too many concurrent requests in flight","code":"x"}`}, 0, "", actions.Busy},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			c := p.connect()
			p.fail[post] = test.answer
			asked := 0
			p.hook = func(r *http.Request) {
				if strings.Contains(r.URL.Path, "/activations/") {
					if asked++; asked == 2 {
						p.mu.Lock()
						p.record("m", whisk.Success, `{"late":true}`)
						p.mu.Unlock()
					}
				}
			}
			a, err := c.Invoke(t.Context(), "m", nil)
			if actions.CodeOf(err) != test.err {
				t.Fatalf("got %v, want %q", err, test.err)
			}
			if a.Response.Code != test.code || string(a.Response.Result) != test.result {
				t.Errorf("got %d %s, want %d %s", a.Response.Code, a.Response.Result, test.code, test.result)
			}
		})
	}
}
