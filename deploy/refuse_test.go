package deploy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

func TestRefusedPlans(t *testing.T) {
	sequence := func(name string, components ...string) deploy.Deployment {
		return deploy.Deployment{Sequences: []deploy.Sequence{{Name: name, Components: components}}, Image: "i"}
	}
	with := func(change func(*deploy.Function)) deploy.Deployment {
		f := function("m")
		change(&f)
		return deployment(f)
	}
	params := sequence("s", "x")
	params.Sequences[0].Parameters = whisk.KeyValues{kv("a", "1")}
	bound := deployment(function("m"))
	bound.Package = "bound"
	badPackage := deployment(function("m"))
	badPackage.Package = "a/b"
	noImage := deployment(function("m"))
	noImage.Image = ""
	for _, test := range []struct {
		name string
		d    deploy.Deployment
		code actions.Code
		text string
	}{
		{"twice the same name", deployment(function("m"), function("m")), actions.Invalid, "two actions are called m"},
		{"no name", deployment(function("")), actions.Invalid, "cannot be a name"},
		{"a slash", deployment(function("a/b")), actions.Invalid, "cannot be a name"},
		{"package", badPackage, actions.Invalid, "package: "},
		{"no image", noImage, actions.Invalid, "no image"},
		{"a binding", bound, actions.Conflict, "binding of /guest/models"},
		{"empty sequence", sequence("s"), actions.Invalid, "has no actions"},
		{"component is not there", sequence("s", "nobody"), actions.NotFound, "nobody is neither a model, a file, nor an action"},
		{"component is no name", sequence("s", "/a/b/c/d"), actions.Invalid, "not the name of an entity"},
		{"parameters of a sequence", params, actions.Invalid, "no parameters"},
		{"web", with(func(f *deploy.Function) { f.Web = "maybe" }), actions.Invalid, "want yes, raw or no"},
		{"secret without the web", with(func(f *deploy.Function) { f.Secret = "x" }), actions.Invalid, "add --web"},
		{"secret of nothing", with(func(f *deploy.Function) { f.Secret, f.Web = "x", deploy.No }), actions.Invalid, "add --web"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			p.packages["bound"] = whisk.Package{Binding: whisk.Binding{Namespace: "guest", Name: "models"}}
			_, err := p.connect().Plan(t.Context(), test.d)
			if actions.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %q %v, want %q with %q", actions.CodeOf(err), err, test.code, test.text)
			}
			if sent := p.sent(); len(sent) != 0 {
				t.Errorf("sent %q, want nothing", sent)
			}
		})
	}
}

// A run that was interrupted is finished by the next one.
func TestInterrupted(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	d := deployment(function("a"), function("b"), function("c"))
	d.Package = "models"
	p.fail["PUT /api/v1/namespaces/_/actions/models/b"] = fault{503, `{"error":"System is overloaded, try again later.","code":"x"}`}
	plan, err := c.Plan(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = c.Apply(t.Context(), plan, func(deploy.Step) { n++ })
	if actions.CodeOf(err) != actions.Unavailable || n != 2 {
		t.Fatalf("got %v after %d steps, want Unavailable after 2", err, n)
	}
	done, _ := deployTo(t, c, d)
	want := []string{"unchanged package models", "unchanged action models/a", "create action models/b", "create action models/c"}
	if !cmp.Equal(done, want) {
		t.Errorf("got %q, want %q", done, want)
	}
}

// Without a platform a plan is that for an empty one.
func TestPlanWithoutPlatform(t *testing.T) {
	var none *deploy.Client
	d := deployment(function("m"))
	d.Package = "models"
	d.Functions[0].Web = deploy.Yes
	d.Sequences = []deploy.Sequence{{Name: "s", Components: []string{"m", "elsewhere"}}}
	plan, err := none.Plan(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range plan.Steps {
		got = append(got, step.Verb+" "+step.What)
	}
	if want := []string{"create package models", "create action models/m", "create action models/s"}; !cmp.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Many may use one client.
func TestClientIsForMany(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	done := make(chan error, 8)
	for i := range 8 {
		go func() {
			d := deployment(function(fmt.Sprint("m", i)))
			plan, err := c.Plan(t.Context(), d)
			if err == nil {
				err = c.Apply(t.Context(), plan, func(deploy.Step) {})
			}
			if err == nil {
				_, err = c.Activations(t.Context(), fmt.Sprint("m", i), 1)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(p.actions); n != 8 {
		t.Errorf("got %d actions, want 8", n)
	}
}
