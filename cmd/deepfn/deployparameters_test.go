package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions/whisk"
)

// setPackage gives a package these parameters.
func (p *process) setPackage(name, parameters string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPut,
		p.base+"/api/v1/namespaces/_/packages/"+name+"?overwrite=true", strings.NewReader(`{"parameters":`+parameters+`}`))
	if err != nil {
		p.t.Fatal(err)
	}
	user, key, _ := strings.Cut(whisk.GuestAuth, ":")
	req.SetBasicAuth(user, key)
	req.Header.Set("Content-Type", jsonMedia)
	if r, err := do(req); err != nil || r.status != 200 {
		p.t.Fatalf("package %s: got %d %s, %v", name, r.status, r.body, err)
	}
}

// An update of an action leaves what it has of its package to the package.
func TestDeployLeavesPackageParameters(t *testing.T) {
	p := whiskServer(t)
	p.setPackage("p", `[{"key":"password","value":"old"}]`)
	function := lay(t, "show.py", "def main(args):\n    return args\n")
	deployed := func(says string, parameter string) {
		t.Helper()
		p.command("deploy", "openwhisk", function, "--package", "p", "-p", parameter).want(t, parameter, 0, says)
	}
	got := func(want string) {
		t.Helper()
		if r := p.invokeAction("p/show", "{}"); r.status != 200 || strings.Join(strings.Fields(r.body), "") != want {
			t.Errorf("got %d %s, want %s", r.status, r.body, want)
		}
	}
	deployed("created action p/show", "a=1")
	deployed("updated action p/show: parameter a", "a=2")
	p.setPackage("p", `[{"key":"password","value":"new"}]`)
	got(`{"a":2,"password":"new"}`)
	deployed("updated action p/show: parameter password", "password=new")
	p.setPackage("p", `[{"key":"password","value":"newer"}]`)
	got(`{"a":2,"password":"new"}`)
}
