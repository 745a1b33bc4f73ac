package deploy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/actions/whisk"
	"github.com/deepfn/deepfn/deploy"
)

// lineModel is a model that an image holds.
func lineModel() actions.Model {
	return actions.Model{
		Name: "ocr-line", Version: "PP-OCRv4", Title: "Read one line", Runtime: actions.ONNX,
		Arguments: []actions.Argument{{Name: "image", Type: actions.TypeFile, Required: true, Description: "A picture."}},
	}
}

func function(name string) deploy.Function {
	m := lineModel()
	m.Name = name
	return deploy.Function{Name: name, Model: m, Memory: 320}
}

func deployment(functions ...deploy.Function) deploy.Deployment {
	return deploy.Deployment{Functions: functions, Image: "me/deepfn:1", Release: "9.9.9"}
}

func kv(key, value string) whisk.KeyValue {
	return whisk.KeyValue{Key: key, Value: json.RawMessage(value)}
}

// deployTo plans and applies, and returns the verbs of the steps.
func deployTo(t *testing.T, c *deploy.Client, d deploy.Deployment) ([]string, deploy.Plan) {
	t.Helper()
	plan, err := c.Plan(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var done []string
	if err := c.Apply(t.Context(), plan, func(s deploy.Step) { done = append(done, s.Verb+" "+s.What) }); err != nil {
		t.Fatal(err)
	}
	return done, plan
}

// The first deployment of a model, to the byte, with what the plan said before.
func TestCreate(t *testing.T) {
	p := newPlatform(t)
	f := function("ocr-line")
	f.Options = deploy.Options{
		Web: deploy.Yes, Secret: "sesame", Parameters: whisk.KeyValues{kv("top", "3")},
		Annotations: whisk.KeyValues{kv("invoker-resources", `["gpu"]`)},
	}
	d := deployment(f)
	d.Package = "models"
	done, plan := deployTo(t, p.connect(), d)
	if want := []string{"create package models", "create action models/ocr-line"}; !cmp.Equal(done, want) {
		t.Fatalf("got %q, want %q", done, want)
	}
	sent := p.sent()
	if len(sent) != 2 {
		t.Fatalf("got %q, want two requests", sent)
	}
	for i, step := range plan.Steps {
		if want := "PUT " + step.Path + " " + string(step.Body); sent[i] != want {
			t.Errorf("sent %s, the plan said %s", sent[i], want)
		}
	}
	const line, body = "PUT /api/v1/namespaces/_/actions/models/ocr-line?overwrite=false ", `{"namespace":"_","name":"models/ocr-line",` +
		`"exec":{"kind":"blackbox","image":"me/deepfn:1","code":"{\"model\":\"ocr-line\"}"},"annotations":[` +
		`{"key":"description","value":"Read one line"},` +
		`{"key":"parameters","value":[{"name":"image","description":"A picture.","type":"file","required":true}]},` +
		`{"key":"deepfn","value":{"release":"9.9.9","model":"ocr-line","model_version":"PP-OCRv4","sha256":"HASH"}},` +
		`{"key":"provide-api-key","value":false},{"key":"web-export","value":true},{"key":"raw-http","value":false},{"key":"final","value":true},` +
		`{"key":"require-whisk-auth","value":"sesame"},{"key":"invoker-resources","value":["gpu"]}],` +
		`"parameters":[{"key":"top","value":3}],"limits":{"timeout":300000,"memory":320}}`
	got := sent[1]
	if i := strings.Index(got, `"sha256":"`); i > 0 {
		got = got[:i+10] + "HASH" + got[i+10+64:]
	}
	if got != line+body {
		t.Errorf("got  %s\nwant %s", got, line+body)
	}
	if want := p.url + "/api/v1/web/guest/models/ocr-line"; plan.Steps[1].URL != want || string(plan.Steps[1].Secret) != `"sesame"` {
		t.Errorf("web: got %s with %s, want %s with the secret", plan.Steps[1].URL, plan.Steps[1].Secret, want)
	}
}

// The second deployment of the same sends nothing, and so keeps the version and the warm
// containers.
func TestUnchanged(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	code := deploy.Function{Name: "dates", Code: []byte("def main(args):\n    return {'a': '<b>'}\n"), Model: actions.Model{Name: "dates", Runtime: actions.Python}, Memory: 128}
	binary := deploy.Function{Name: "zip", Code: []byte("PK\x03\x04\x00\xff"), Model: actions.Model{Name: "zip"}}
	for _, f := range []*deploy.Function{&code, &binary} {
		f.Web, f.Secret = deploy.Raw, "true"
		f.Parameters = whisk.KeyValues{kv("x", `{"a": [1, 2.0]}`)}
	}
	// Four letters are base64 too, and OpenWhisk would decode them.
	short := deploy.Function{Name: "short", Code: []byte("pass"), Model: actions.Model{Name: "short"}, Memory: 128}
	d := deployment(function("ocr-line"), code, binary, short)
	d.Package = "models"
	d.Sequences = []deploy.Sequence{{Name: "both", Components: []string{"ocr-line", "dates"}, Options: deploy.Options{Web: deploy.Yes}}}
	deployTo(t, c, d)
	if n := len(p.sent()); n != 6 {
		t.Fatalf("got %d requests, want 6", n)
	}
	done, _ := deployTo(t, c, d)
	if sent := p.sent(); len(sent) != 0 {
		t.Errorf("sent %q, want nothing", sent)
	}
	if slices.ContainsFunc(done, func(s string) bool { return !strings.HasPrefix(s, "unchanged ") }) {
		t.Errorf("got %q, want all unchanged", done)
	}
	if v := p.actions["models/dates"].Version; v != "0.0.1" {
		t.Errorf("version: got %s, want 0.0.1", v)
	}
	if got := *p.actions["models/zip"].Exec.Code; got != "UEsDBAD/" {
		t.Errorf("code of an archive: got %q, want base64", got)
	}
	if got := *p.actions["models/short"].Exec.Code; got != "cGFzcw==" {
		t.Errorf("code that looks like base64: got %q, want base64 of it", got)
	}
	if got := *p.actions["models/dates"].Exec.Code; got != string(code.Code) {
		t.Errorf("code of a source: got %q, want it as it is", got)
	}
	if got := p.actions["models/both"].Exec.Components; !cmp.Equal(got, []string{"/_/models/ocr-line", "/_/models/dates"}) {
		t.Errorf("components: got %q", got)
	}
}

// An update sends what differs and keeps what others have set.
func TestUpdate(t *testing.T) {
	logs := 0
	for _, test := range []struct {
		name    string
		change  func(*deploy.Function)
		there   func(*whisk.Action)
		changes []string
		body    string // without namespace and name
	}{
		{"memory", func(f *deploy.Function) { f.Limits.Memory = 1024 }, nil, []string{"limits.memory 320 → 1024"}, `"limits":{"memory":1024}`},
		{"no logs", func(f *deploy.Function) { f.Limits.Logs = &logs }, nil, []string{"limits.logs 10 → 0"}, `"limits":{"logs":0}`},
		{
			"timeout and concurrency", func(f *deploy.Function) { f.Limits.Timeout, f.Limits.Concurrency = 60000, 4 }, nil,
			[]string{"limits.timeout 300000 → 60000", "limits.concurrency 1 → 4"},
			`"limits":{"timeout":60000,"concurrency":4}`,
		},
		{
			"image", func(f *deploy.Function) { f.Image = "me/deepfn:2" }, nil,
			[]string{"image me/deepfn:1 → me/deepfn:2"},
			`"exec":{"kind":"blackbox","image":"me/deepfn:2","code":"{\"model\":\"ocr-line\"}"}`,
		},
		{
			"kind", func(f *deploy.Function) { f.Kind = "deepfn:ocr-line" }, nil,
			[]string{"kind blackbox → deepfn:ocr-line"},
			`"exec":{"kind":"deepfn:ocr-line","code":"{\"model\":\"ocr-line\"}"}`,
		},
		{
			"parameter beside others", func(f *deploy.Function) { f.Parameters = whisk.KeyValues{kv("b", "2")} },
			func(a *whisk.Action) {
				a.Parameters = whisk.KeyValues{{Key: "a", Value: json.RawMessage("1"), Init: true}}
			},
			[]string{"parameter b"},
			`"parameters":[{"key":"a","value":1,"init":true},{"key":"b","value":2}]`,
		},
		{
			"annotation", func(f *deploy.Function) { f.Annotations = whisk.KeyValues{kv("x", "1")} },
			func(a *whisk.Action) { a.Annotations = append(a.Annotations, kv("theirs", "true")) },
			[]string{"annotation x"},
			`"annotations":[{"key":"x","value":1}]`,
		},
		{
			"no longer on the web", func(f *deploy.Function) { f.Web = deploy.No },
			func(a *whisk.Action) {
				a.Annotations = append(a.Annotations, kv("web-export", "true"), kv("final", "true"), kv("require-whisk-auth", "7"))
			},
			[]string{"no annotation web-export", "no annotation final", "no annotation require-whisk-auth"},
			`"delAnnotations":["web-export","final","require-whisk-auth"]`,
		},
		{
			"the secret that is there", func(f *deploy.Function) { f.Secret = "true" },
			func(a *whisk.Action) {
				a.Annotations = append(a.Annotations, kv("web-export", "true"), kv("require-whisk-auth", "7"))
			}, nil, "",
		},
		{
			"another one's limits and image stay", func(*deploy.Function) {},
			func(a *whisk.Action) {
				a.Limits = whisk.Limits{Timeout: 1000, Memory: 2048, Logs: 1, Concurrency: 9}
				a.Exec.Image, a.Exec.Main = "theirs:3", "train"
			}, nil, "",
		},
		{
			"code was changed there", func(*deploy.Function) {},
			func(a *whisk.Action) { code := "def main(): pass"; a.Exec.Code = &code },
			[]string{"code"},
			`"exec":{"kind":"blackbox","image":"me/deepfn:1","code":"{\"model\":\"ocr-line\"}"}`,
		},
		{
			"it was a sequence", func(*deploy.Function) {},
			func(a *whisk.Action) { a.Exec = whisk.Exec{Kind: whisk.Sequence, Components: []string{"/guest/x"}} },
			[]string{"kind sequence → blackbox"},
			`"exec":{"kind":"blackbox","image":"me/deepfn:1","code":"{\"model\":\"ocr-line\"}"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			c := p.connect()
			deployTo(t, c, deployment(function("ocr-line")))
			p.sent()
			if test.there != nil {
				a := p.actions["ocr-line"]
				test.there(&a)
				p.actions["ocr-line"] = a
			}
			f := function("ocr-line")
			test.change(&f)
			_, plan := deployTo(t, c, deployment(f))
			if got := plan.Steps[0].Changes; !cmp.Equal(got, test.changes) {
				t.Errorf("changes: got %q, want %q", got, test.changes)
			}
			want := []string(nil)
			if test.body != "" {
				want = []string{`PUT /api/v1/namespaces/_/actions/ocr-line?overwrite=true {"namespace":"_","name":"ocr-line",` + test.body + `}`}
			}
			if got := p.sent(); !cmp.Equal(got, want) {
				t.Errorf("sent: %s", cmp.Diff(want, got))
			}
			if again, _ := deployTo(t, c, deployment(f)); again[0] != "unchanged action ocr-line" {
				t.Errorf("once more: got %q, want it unchanged", again)
			}
		})
	}
}

func TestLimitsAreCut(t *testing.T) {
	const root = `{"limits":{"min_action_duration":100,"max_action_duration":60000,"min_action_memory":134217728,"max_action_memory":268435456,"min_action_logs":0,"max_action_logs":10485760}}`
	logs := 50
	wants := deploy.Limits{Timeout: 90000, Memory: 4096, Logs: &logs, Concurrency: 8}
	for _, test := range []struct {
		name, root, own string
		limits          deploy.Limits
		body            string
		warnings        []string
	}{
		{"nothing is known", "{}", "{}", wants, `{"timeout":90000,"memory":4096,"logs":50,"concurrency":8}`, nil},
		{"the root says it", root, `{}`, wants, `{"timeout":60000,"memory":256,"logs":10,"concurrency":8}`, []string{
			"memory: 4096 MiB are wanted, the platform allows 256 MiB; its operator sets that with whisk.memory.max",
			"timeout: 90000 ms are wanted, the platform allows 60000 ms; its operator sets that with whisk.time-limit.max",
			"logs: 50 MiB are wanted, the platform allows 10 MiB; its operator sets that with whisk.log-limit.max",
		}},
		{
			"the namespace says it", root, `{"maxActionMemory":512,"minActionMemory":128,"maxActionTimeout":70000,"maxActionLogs":20,"maxActionConcurrency":1,"maxParameterSize":"1 MB"}`, wants,
			`{"timeout":70000,"memory":512,"logs":20,"concurrency":1}`,
			[]string{
				"memory: 4096 MiB are wanted, the platform allows 512 MiB; its operator sets that with maxActionMemory of the namespace's limits, and whisk.memory.max",
				"timeout: 90000 ms are wanted, the platform allows 70000 ms; its operator sets that with maxActionTimeout of the namespace's limits, and whisk.time-limit.max",
				"logs: 50 MiB are wanted, the platform allows 20 MiB; its operator sets that with maxActionLogs of the namespace's limits, and whisk.log-limit.max",
				"concurrency: 8 is wanted, the platform allows 1; its operator sets that with maxActionConcurrency of the namespace's limits, and whisk.concurrency-limit.max",
			},
		},
		{"too little", root, `{}`, deploy.Limits{Timeout: 1, Memory: 1}, `{"timeout":100,"memory":128}`, nil},
		{"the defaults", root, `{}`, deploy.Limits{}, `{"timeout":60000,"memory":256}`, []string{
			"memory: 320 MiB are wanted, the platform allows 256 MiB; its operator sets that with whisk.memory.max",
			"timeout: 300000 ms are wanted, the platform allows 60000 ms; its operator sets that with whisk.time-limit.max",
		}},
		{"no document at the root", "<html>", `{"maxActionMemory":"512 MB"}`, deploy.Limits{Memory: 9999}, `{"timeout":300000,"memory":9999}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			p.info, p.own = test.root, test.own
			f := function("m")
			f.Limits = test.limits
			plan, err := p.connect().Plan(t.Context(), deployment(f))
			if err != nil {
				t.Fatal(err)
			}
			if body := string(plan.Steps[0].Body); !strings.HasSuffix(body, `"limits":`+test.body+"}") {
				t.Errorf("got %s, want limits %s", body, test.body)
			}
			for i := range test.warnings {
				test.warnings[i] = "action m: " + test.warnings[i]
			}
			if !cmp.Equal(plan.Warnings, test.warnings) {
				t.Errorf("warnings: %s", cmp.Diff(test.warnings, plan.Warnings))
			}
		})
	}
}

// An action that has less memory than its model needs is left as it is, with a warning.
func TestTooLittleMemoryThere(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	deployTo(t, c, deployment(function("m")))
	f := function("m")
	f.Memory = 640
	done, plan := deployTo(t, c, deployment(f))
	if done[0] != "unchanged action m" || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "--memory 640") {
		t.Errorf("got %q with %q, want it unchanged with a warning", done, plan.Warnings)
	}
}

// Actions of other namespaces and those that are there can be in a sequence.
func TestSequenceOfWhatIsThere(t *testing.T) {
	p := newPlatform(t)
	c := p.connect()
	deployTo(t, c, deployment(function("m")))
	d := deploy.Deployment{Image: "i", Sequences: []deploy.Sequence{{Name: "s", Components: []string{"m", "/guest/m", "/whisk.system/utils/echo"}}}}
	deployTo(t, c, d)
	if got, want := p.actions["s"].Exec.Components, []string{"/_/m", "/_/m", "/whisk.system/utils/echo"}; !cmp.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	a := p.actions["s"]
	a.Exec.Components = []string{"/guest/m", "/guest/m", "/whisk.system/utils/echo"} // as a server shows them
	p.actions["s"] = a
	if done, _ := deployTo(t, c, d); done[0] != "unchanged action s" {
		t.Errorf("got %q, want it unchanged", done)
	}
}

// What an action has of its package is not made its own: it changes with the package.
func TestPackageParameters(t *testing.T) {
	for _, test := range []struct {
		name       string
		own, wants whisk.KeyValues
		body       string
	}{
		{"another value", whisk.KeyValues{kv("a", "1")}, whisk.KeyValues{kv("a", "2")}, `"parameters":[{"key":"a","value":2}]`},
		{"one more", whisk.KeyValues{kv("b", "1")}, whisk.KeyValues{kv("a", "2")}, `"parameters":[{"key":"b","value":1},{"key":"a","value":2}]`},
		{"the package's value", nil, whisk.KeyValues{kv("password", `"old"`)}, `"parameters":[{"key":"password","value":"old"}]`},
		{"its own value of the package's", whisk.KeyValues{kv("password", `"mine"`)}, whisk.KeyValues{kv("a", "2")}, `"parameters":[{"key":"password","value":"mine"},{"key":"a","value":2}]`},
		{"what it has", whisk.KeyValues{kv("a", "1")}, whisk.KeyValues{kv("a", "1")}, ""},
		{"nothing", nil, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlatform(t)
			c := p.connect()
			f := function("ocr-line")
			f.Parameters = test.own
			d := deployment(f)
			d.Package = "models"
			deployTo(t, c, d)
			p.sent()
			pkg := p.packages["models"]
			pkg.Parameters = whisk.KeyValues{kv("password", `"old"`), kv("host", `"db"`)}
			p.packages["models"] = pkg
			d.Functions[0].Parameters = test.wants
			deployTo(t, c, d)
			want := []string(nil)
			if test.body != "" {
				want = []string{`PUT /api/v1/namespaces/_/actions/models/ocr-line?overwrite=true {"namespace":"_","name":"models/ocr-line",` + test.body + `}`}
			}
			if got := p.sent(); !cmp.Equal(got, want) {
				t.Errorf("sent: %s", cmp.Diff(want, got))
			}
		})
	}
}
