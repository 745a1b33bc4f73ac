package conformance

import (
	"fmt"
	"net/http"
	"strings"
)

func noValue(t *trial) {
	t.loadEcho()
	for _, body := range []string{`{"value":{}}`, `{"value":null}`, `{}`, `{"activation_id":"iii"}`} {
		r := t.post("/run", body)
		t.want(&r, map[string]any{})
	}
}

func scalarValue(t *trial) {
	t.loadEcho()
	for _, value := range []any{"A", 1, true} {
		r := t.run(value)
		if r.status == http.StatusOK && r.object()["error"] == nil {
			t.failf("%s: got %s, want a refusal", r.what, r.got())
		}
		t.wantError(&r)
	}
	t.ownEcho("after")
}

// ownEcho fails unless the echo is right.
func (t *trial) ownEcho(text string) {
	args := map[string]any{"text": text}
	r := t.run(args)
	t.want(&r, args)
}

func malformed(t *trial) {
	t.loadEcho()
	for i, body := range []string{"XXX", `{"value":{"a":1}`, `{"value":{}} trailing`} {
		r := t.post("/run", body)
		if r.status == http.StatusOK && r.object()["error"] == nil {
			t.failf("%s: got %s, want a refusal", r.what, r.got())
		}
		t.ownEcho(fmt.Sprintf("after %d", i))
	}
}

func notUTF8Body(t *trial) {
	t.loadEcho()
	r := t.post("/run", "{\"value\":{\"text\":\"\xff\xfe\"}}")
	if decode(r.body) == nil {
		t.failf("%s: got %d %q, want JSON in UTF-8", r.what, r.status, short(r.body))
	}
	t.ownEcho("after")
}

func doubledKeys(t *trial) {
	t.load(tool())
	const env = `"value":{"id":1,"env":["__OW_NAMESPACE","__OW_ACTIVATION_ID"]}`
	r := t.post("/run", `{"namespace":"one","namespace":"two",`+env+`,"activation_id":"iii","activation_id":"iii"}`)
	t.own(&r, 1)
	seen, _ := r.object()["env"].(map[string]any)
	if n := seen["__OW_NAMESPACE"]; n != "one" && n != "two" || seen["__OW_ACTIVATION_ID"] != "iii" {
		t.failf("%s: got %s, want a namespace that was sent, and the activation's id", r.what, r.got())
	}
	r = t.post("/run", `{"a=b":"x","":"y","namespace":"three","number":1,"nothing":null,"list":[1],`+env+`}`)
	t.own(&r, 1)
	r = t.run(id(2))
	t.own(&r, 2)
}

func ownVariables(t *trial) {
	t.load(tool())
	for n := range 3 {
		activation := fmt.Sprintf("activation-%d", n)
		r := t.run(id(n, "env", []string{"__OW_ACTIVATION_ID"}), map[string]any{"activation_id": activation})
		t.own(&r, n)
		if got := r.object()["env"]; encode(got) != encode(map[string]any{"__OW_ACTIVATION_ID": activation}) {
			t.failf("%s: got %s, want the variable %s", r.what, r.got(), activation)
		}
	}
}

func exactValues(t *trial) {
	t.loadEcho()
	nested := strings.Repeat(`{"a":[`, 40) + "1" + strings.Repeat("]}", 40)
	for _, text := range []string{
		`{"n":9007199254740993,"f":0.1,"z":0,"minus":-1}`, `{"text":"\"\\/ \u0000 \u001f \u2028 \ud83d\ude00 é ❄"}`,
		`{"":1,"a b":{"c":[null,true,false,{}]}}`, `{"deep":` + nested + `}`, `{"line":"a\nb\r\nc\td"}`,
	} {
		r := t.post("/run", `{"value":`+text+`}`)
		t.want(&r, decode([]byte(text)))
	}
}

func emptyArray(t *trial) {
	t.loadEcho()
	r := t.run([]any{})
	t.want(&r, []any{})
}

func methods(t *trial) {
	t.loadEcho()
	for _, path := range []string{"/run", "/init"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
			r := t.send(method, path, nil, t.runner.cfg.Timeout)
			if r.err != nil || r.status == http.StatusOK {
				t.failf("%s: got %s, want another status than 200", r.what, r.got())
			}
		}
	}
	t.sentinels(0)
	t.ownEcho("after")
}

func unknownPath(t *trial) {
	for _, path := range []string{"/no/such/path", "/runs", "/run/x"} {
		r := t.post(path, "{}")
		t.wantRefused(&r)
	}
	r := t.send(http.MethodGet, "/no/such/path", nil, t.runner.cfg.Timeout)
	if r.err != nil {
		t.failf("%s: %v", r.what, r.err)
	}
	t.wantRefused(&r)
}

func lengths(t *trial) {
	t.loadEcho()
	for _, n := range []int{0, 1, 1 << 10, 2 << 10, 4 << 10, 64 << 10, 1<<20 - 100} {
		args := map[string]any{"text": strings.Repeat("x", n)}
		r := t.run(args)
		t.want(&r, args)
		if r.length != int64(len(r.body)) {
			t.failf("%s: Content-Length is %d, the body has %d bytes", r.what, r.length, len(r.body))
		}
	}
}

func lengthsOfErrors(t *trial) {
	for _, c := range []struct{ path, body string }{
		{"/run", "{}"},
		{"/run", ""},
		{"/init", ""},
		{"/init", "XXX"},
		{"/no/such/path", "{}"},
		{"/init", `{"value":{"binary":true,"code":"***"}}`},
	} {
		if c.path == "/init" && t.runner.traits.stub {
			continue // it would be an init
		}
		_ = t.post(c.path, c.body) // any answer is right that says its length
	}
}

func largeAnswer(t *trial) {
	t.load(tool())
	r := t.run(id(1, "size", 1<<20+100))
	t.wantStatus(&r, http.StatusOK)
	if _, refused := r.object()["error"]; !refused {
		t.own(&r, 1)
		if data, _ := r.object()["data"].(string); len(data) != 1<<20+100 {
			t.failf("%s: got %d bytes of data, want %d or an error", r.what, len(data), 1<<20+100)
		}
	}
	r = t.run(id(2))
	t.own(&r, 2)
	t.sentinels(2)
}
