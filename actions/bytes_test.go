package actions_test

import (
	"testing"

	"github.com/deepfn/deepfn/actions"
)

func TestParseBytes(t *testing.T) {
	for _, test := range []struct {
		text string
		want actions.Bytes
	}{
		{"0", 0},
		{"1073741824", 1 << 30},
		{"4 GiB", 4 << 30},
		{"4gib", 4 << 30},
		{"4G", 4 << 30},
		{"1.5 GiB", 3 << 29},
		{"512MB", 512e6},
		{"7 B", 7},
		{" 2 TiB ", 2 << 40},
		{"8388607 TiB", 8388607 << 40},
	} {
		got, err := actions.ParseBytes(test.text)
		if err != nil || got != test.want {
			t.Errorf("ParseBytes(%q): got %d, %v, want %d", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "-1 GiB", "1e9", "NaN", "Inf GiB", "4 GiBs", "8388608 TiB", "99999999999999999999", "0x10"} {
		if got, err := actions.ParseBytes(text); actions.CodeOf(err) != actions.Invalid {
			t.Errorf("ParseBytes(%q): got %d, %v, want Invalid", text, got, err)
		}
	}
}

func TestBytesString(t *testing.T) {
	for b, want := range map[actions.Bytes]string{
		0: "0 B", 700: "700 B", 1 << 10: "1 KiB", 3 << 29: "1.5 GiB", 80 << 30: "80 GiB", -(3 << 29): "-1.5 GiB", 2 << 40: "2 TiB",
	} {
		if got := b.String(); got != want {
			t.Errorf("Bytes(%d): got %q, want %q", int64(b), got, want)
		}
	}
}
