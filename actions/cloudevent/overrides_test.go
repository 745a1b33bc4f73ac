package cloudevent_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/actions/cloudevent"
)

func TestOverrides(t *testing.T) {
	got, err := cloudevent.Overrides(map[string]string{"Team": "x", "cluster": "Edge-7"})
	want := []cloudevent.Attribute{{Name: "cluster", Value: "Edge-7"}, {Name: "team", Value: "x"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for name, extensions := range map[string]map[string]string{
		"my-ext":  {"my-ext": "1"},
		"subject": {"Subject": "1"},
		"twice":   {"Team": "x", "team": "y"},
		"NUL":     {"team": "\x00"},
	} {
		if _, err := cloudevent.Overrides(extensions); err == nil {
			t.Errorf("%s: got no error", name)
		} else if name != "NUL" && name != "twice" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
