package wish_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/deepfn/deepfn/deploy/knative/wish"
)

func TestServiceName(t *testing.T) {
	label := regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	for _, test := range []struct{ model, want string }{
		{"ocr-line", "ocr-line"},
		{"own_model.v2", "own-model-v2"},
		{"7segments", "m-7segments"},
		{"_x_", "m-x"},
		{"", "m"},
		{"Größe", "gr--e"},
		{strings.Repeat("a", 62) + "_b", strings.Repeat("a", 62)},
		{strings.Repeat("9", 63), "m-" + strings.Repeat("9", 61)},
	} {
		got := wish.ServiceName(test.model)
		if got != test.want {
			t.Errorf("ServiceName(%q): got %q, want %q", test.model, got, test.want)
		}
		if !label.MatchString(got) || len(got) > 63 {
			t.Errorf("ServiceName(%q): got %q, which is no name of a Service", test.model, got)
		}
	}
}
