package worker

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzPacket(f *testing.F) {
	f.Add([]byte("DFNZ\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00text"))
	f.Add([]byte("DFNZ\x04\x00\x00\x00\x02\x00\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte("DFNZ\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if p.fd != -1 {
			t.Errorf("a descriptor %d of nothing", p.fd)
		}
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, []byte("DFNZ")) || p.typ == zygoteFork || p.typ == zygoteReap || p.text != string(b[16:]) {
			t.Errorf("%q was taken for %+v", b, p)
		}
	})
}

func TestLatest(t *testing.T) {
	got := latest([]string{"A=1", "B=2", "A=3", "=C:=x", "none", "D=", "B=4"})
	slices.Sort(got)
	if diff := cmp.Diff([]string{"A=3", "B=4", "D="}, got); diff != "" {
		t.Error(diff)
	}
}
