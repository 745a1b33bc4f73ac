package jsonscan

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func samples() []string {
	return []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":1,"a":2}`, `{"a":[1,2,{"b":[]}],"c":{"d":null},"e":true,"f":false}`,
		`{"":""}`, `{"a\"b\\":"c\/\b\f\n\r\t\u00e9\uD83D\ude00"}`, `"\u12g4"`, `"\u 123"`, `"\x"`, `"\u123`,
		`"` + strings.Repeat("x", 100) + `"`, "\"\x1f\"", "\"12345678\x00\"", `"é☃"`, "\"\xff\"", "\"12345678\xc3\"",
		`[-0,0.5,1e9,1E-9,-12.25e+3]`, `01`, `1.`, `.5`, `-`, `1e`, `+1`, `1 2`, `1,`, "1\n", "\t1",
		`{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `[1,]`, `[,]`, `[1 2]`, `[`, `]`, `[[]`, `[]]`,
		`tru`, `nul`, `falsE`, `null`, `true`, `{`, `}`, ``, ` `, `{"a":"`, `{"a":"\`, `{"a":1}}`, `{"a":1} x`,
		"\ufeff{}", `NaN`, `Infinity`, "{\"a\"\u00a0:1}", `{"a":1}` + "\x00", `{"a":{"b":}}`, `{"a":{1:2}}`,
	}
}

func TestValid(t *testing.T) {
	for _, text := range samples() {
		checkValid(t, []byte(text))
	}
}

func FuzzValid(f *testing.F) {
	for _, text := range samples() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkValid(t, data) })
}

// checkValid wants what encoding/json says of data, and of the members of an object.
func checkValid(t *testing.T, data []byte) {
	t.Helper()
	data = slices.Clip(data) // what is behind it is nobody's
	if len(data) >= MaxDepth {
		return // it may be nested too deep
	}
	if got, want := Valid(data), json.Valid(data) && utf8.Valid(data); got != want {
		t.Errorf("%q: got valid %v, want %v", data, got, want)
	}
	got := map[string]json.RawMessage{}
	s := New(data)
	ok := s.Members(-1, got) && s.AtEnd() && utf8.Valid(data)
	var want map[string]json.RawMessage
	wanted := json.Unmarshal(data, &want) == nil && want != nil && utf8.Valid(data)
	if ok != wanted {
		t.Errorf("%q: got an object %v, want %v", data, ok, wanted)
	}
	if !ok {
		return
	}
	for name, raw := range want {
		if !bytes.Equal(bytes.TrimSpace(got[name]), raw) {
			t.Errorf("%q: got %s of %q, want %s", data, got[name], name, raw)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%q: got %d members, want %d", data, len(got), len(want))
	}
}

func TestDepth(t *testing.T) {
	for _, test := range []struct {
		depth int
		want  bool
	}{{MaxDepth, true}, {MaxDepth + 1, false}, {1 << 20, false}} {
		for _, pair := range []string{"[]", "{}"} {
			begin, end := pair[:1], pair[1:]
			if begin == "{" {
				begin = `{"a":`
			}
			text := strings.Repeat(begin, test.depth-1) + pair + strings.Repeat(end, test.depth-1)
			if got := Valid([]byte(text)); got != test.want {
				t.Errorf("%d times %s: got %v, want %v", test.depth, pair, got, test.want)
			}
		}
	}
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		limit int
		want  bool
	}{{-1, true}, {3, true}, {2, false}} {
		if got := New([]byte(`{"a":1,"b":2,"c":3}`)).Members(test.limit, map[string]json.RawMessage{}); got != test.want {
			t.Errorf("three members, limit %d: got %v, want %v", test.limit, got, test.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, special := range []byte{'"', '\\', 0, 0x1f, '\n'} {
		for at := range 20 {
			text := []byte(strings.Repeat("\x80a\xff ~\x20", 4))
			text[at] = special
			if got := Plain(text); got != at {
				t.Errorf("%#x at %d: got %d", special, at, got)
			}
		}
	}
	if got := Plain([]byte(strings.Repeat("é", 9))); got != 18 {
		t.Errorf("got %d plain bytes, want 18", got)
	}
}

func TestObject(t *testing.T) {
	var keys []string
	s := New([]byte(` {"a":{"x":1},"b\u0062":[2]} `))
	ok := s.Object(-1, func(s *Scanner, key []byte) bool {
		keys = append(keys, string(key))
		if s.Peek() == '{' {
			return s.Object(-1, func(s *Scanner, key []byte) bool {
				keys = append(keys, string(key))
				return s.Value()
			})
		}
		raw, ok := s.Raw()
		keys = append(keys, string(raw))
		return ok
	})
	if diff := cmp.Diff([]string{"a", "x", "bb", "[2]"}, keys); !ok || !s.AtEnd() || diff != "" {
		t.Errorf("got %v, at %d:\n%s", ok, s.Pos(), diff)
	}
}

func TestArray(t *testing.T) {
	for text, want := range map[string][]string{
		`[]`: nil, ` [ ] `: nil, `[1]`: {"1"}, `[1 , "a,]" ,[2,3]]`: {"1", `"a,]"`, "[2,3]"},
		`[1,]`: {"1", "wrong"}, `[1`: {"1", "wrong"}, `[1 2]`: {"1", "wrong"}, `{}`: {"wrong"}, ``: {"wrong"}, `[`: {"wrong"},
	} {
		var got []string
		s := New([]byte(text))
		if !s.Array(func(s *Scanner) bool {
			from := s.Pos()
			ok := s.Value()
			if ok {
				got = append(got, string(s.Since(from)))
			}
			return ok
		}) || !s.AtEnd() {
			got = append(got, "wrong")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
}

func BenchmarkValid(b *testing.B) {
	data := []byte(`{"d":"` + strings.Repeat("x", 1<<20) + `"}`)
	for name, valid := range map[string]func([]byte) bool{"jsonscan": Valid, "encoding": json.Valid} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if !valid(data) {
					b.Fatal("not valid")
				}
			}
		})
	}
}
