package proxy

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions/jsonscan"
)

func jsonSamples() []string {
	return []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":1,"a":2}`, `{"a":[1,2,{"b":[]}],"c":{"d":null},"e":true,"f":false}`,
		`{"":""}`, `{"a\"b\\":"c\/\b\f\n\r\t\u00e9\uD83D\ude00"}`, `{"a":"\u12g4"}`, `{"a":"\u 123"}`, `{"a":"\x"}`,
		`{"a":"` + strings.Repeat("x", 100) + `"}`, "{\"a\":\"\x1f\"}", "{\"a\":\"12345678\x00\"}", `{"a":"é☃"}`,
		`{"a":-0,"b":0.5,"c":1e9,"d":1E-9,"e":-12.25e+3}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":1e}`, `{"a":+1}`,
		`{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `{"a":[1,]}`, `{"a":[,]}`, `{"a":[1 2]}`,
		`{"a":tru}`, `{"a":nul}`, `{"a":falsE}`, `{`, `}`, ``, ` `, `{"a":"`, `{"a":"\`, `{"a":1}}`, `{"a":1} x`, `[]`, `null`, `"a"`, `1`,
		"\ufeff{}", `{"a":NaN}`, `{"a":Infinity}`, "{\"a\"\u00a0:1}", `{"a":1}` + "\x00", `{"a":{"b":}}`, `{"a":{1:2}}`,
	}
}

func TestScanObject(t *testing.T) {
	for _, text := range jsonSamples() {
		checkScan(t, []byte(text))
	}
}

func FuzzScanObject(f *testing.F) {
	for _, text := range jsonSamples() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkScan(t, data) })
}

// checkScan wants what encoding/json says of data.
func checkScan(t *testing.T, data []byte) {
	t.Helper()
	got := make(map[string]json.RawMessage)
	bad := scanObject(data, func(s *jsonscan.Scanner, key []byte) bool {
		raw, ok := s.Raw()
		got[string(key)] = raw
		return ok
	})
	nested := 0
	bad2 := scanObject(data, func(s *jsonscan.Scanner, _ []byte) bool {
		if s.Peek() == '{' {
			return s.Object(maxMembers, func(s *jsonscan.Scanner, _ []byte) bool { nested++; return s.Value() })
		}
		return s.Value()
	})
	if (bad == nil) != (bad2 == nil) {
		t.Errorf("%q: got %v taken apart once, %v twice", data, bad, bad2)
	}
	var want map[string]json.RawMessage
	err := json.Unmarshal(data, &want)
	isObject := err == nil && want != nil && utf8.Valid(data) && len(data) < 900
	if isObject != (bad == nil) && len(data) < 900 {
		t.Fatalf("%q: got %v, encoding/json says %v", data, bad, err)
	}
	if bad != nil || !isObject {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q: %s", data, diff)
	}
}

func TestScanObjectLimits(t *testing.T) {
	deep := func(n int) []byte { return []byte(`{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`) }
	many := func(n int) []byte {
		return []byte("{" + strings.TrimSuffix(strings.Repeat(`"a":1,`, n), ",") + "}")
	}
	value := func(s *jsonscan.Scanner, _ []byte) bool { return s.Value() }
	for name, tt := range map[string]struct {
		data []byte
		ok   bool
	}{
		"deep": {deep(jsonscan.MaxDepth - 1), true}, "too deep": {deep(jsonscan.MaxDepth), false}, "far too deep": {deep(1 << 20), false},
		"many": {many(maxMembers), true}, "too many": {many(maxMembers + 1), false},
		"many inside": {append(append([]byte(`{"a":`), many(5*maxMembers)...), '}'), true},
	} {
		if bad := scanObject(tt.data, value); (bad == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", name, bad, tt.ok)
		}
	}
}
