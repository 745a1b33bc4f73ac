package actions

import (
	"strings"
	"testing"
)

// TestModelName shows what becomes of names that no model can have.
func TestModelName(t *testing.T) {
	for s, want := range map[string]string{
		"cats":                           "cats",
		"Yolo_V8.Large":                  "yolo_v8.large",
		"..hidden-":                      "hidden",
		"my cats/2":                      "my-cats-2",
		"":                               "function",
		"-_.":                            "function",
		"größe":                          "gr--e",
		"\u212Aelvin":                    "elvin", // its lower case is an ASCII letter
		"\u0130x":                        "x",
		"a\xffb":                         "a-b",
		strings.Repeat("x", 99):          strings.Repeat("x", 63),
		strings.Repeat("y", 62) + "-end": strings.Repeat("y", 62),
	} {
		got := ModelName(s, "function")
		if got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
		if err := (Model{Name: got, Runtime: "any"}).Validate(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}
