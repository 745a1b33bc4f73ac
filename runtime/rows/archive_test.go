package rows_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
	"github.com/deepfn/deepfn/runtime/rows"
)

// entriesOf makes a tar of headers, each file with its name in it.
func entriesOf(t *testing.T, format tar.Format, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := []byte(h.Name)
		h.Mode, h.Format = 0o644, format
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(data))
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			h = tar.Header{Typeflag: h.Typeflag, PAXRecords: map[string]string{"comment": "x"}}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTar(t *testing.T) {
	long := strings.Repeat("d/", 100) + "x.png"
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	headers := []tar.Header{
		{Typeflag: tar.TypeXGlobalHeader},
		{Name: "d/", Typeflag: tar.TypeDir},
		file("d/a.png"),
		{Name: "l.png", Typeflag: tar.TypeSymlink, Linkname: "d/a.png"},
		{Name: "h.png", Typeflag: tar.TypeLink, Linkname: "d/a.png"},
		{Name: "p", Typeflag: tar.TypeFifo},
		file("../up.png"),
		file(long),
		file("notes.md"),
	}
	want := "0 \"d/a.png\" a.png image/png \"d/a.png\"\n1 \"../up.png\" up.png image/png \"../up.png\"\n" +
		"2 \"" + long + "\" x.png image/png \"" + long[:60] + "\"\n"
	for name, data := range map[string][]byte{
		"x.tar": entriesOf(t, tar.FormatPAX, headers...),
		"x.tgz": gzipOf(t, entriesOf(t, tar.FormatGNU, headers[1:]...)),
	} {
		in := actions.BatchInput{URL: "s3://b/" + name, Match: "*.png"}
		all, _ := readAll(t, open(t, storeOf(in.URL, data), in), rows.Limit{Rows: 1, Bytes: 1})
		if diff := cmp.Diff(want, show(all)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestZip(t *testing.T) {
	data := zipOf(t, []string{"d/", "d/a.png", "../up.png", "notes.md"}, [][]byte{nil, []byte("A"), []byte("U"), []byte("N")})
	in := actions.BatchInput{URL: "s3://b/x.zip", Match: "*.png"}
	s := open(t, storeOf(in.URL, data), in)
	all, _ := readAll(t, s, rows.Limit{Rows: 1, Bytes: 1})
	want := "0 \"d/a.png\" a.png image/png \"A\"\n1 \"../up.png\" up.png image/png \"U\"\n"
	if diff := cmp.Diff(want, show(all)); diff != "" || s.Total() != 2 {
		t.Errorf("got a total of %d, want 2; rows (-want +got):\n%s", s.Total(), diff)
	}
}

// TestSeveralArchives shows that of a prefix of archives the keys say in which a file is.
func TestSeveralArchives(t *testing.T) {
	store := &memory{objects: map[string][]byte{
		"s3://b/in/1.tar":   tarOf(t, []string{"./a.txt"}, [][]byte{[]byte("1")}),
		"s3://b/in/d/2.tgz": gzipOf(t, tarOf(t, []string{"a.txt"}, [][]byte{[]byte("2")})),
	}}
	all, _ := readAll(t, open(t, store, actions.BatchInput{URL: "s3://b/in/"}), whole())
	want := "0 \"1.tar/a.txt\" a.txt text/plain \"1\"\n1 \"d/2.tgz/a.txt\" a.txt text/plain \"2\"\n"
	if diff := cmp.Diff(want, show(all)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestZipFaults shows that what is wrong with one file of a zip is an error of its row.
func TestZipFaults(t *testing.T) {
	directory := func(b []byte) []byte { return b[bytes.Index(b, []byte("PK\x01\x02")):] }
	for name, test := range map[string]struct {
		change func(b []byte)
		want   string
	}{
		"encrypted":      {func(b []byte) { directory(b)[8] |= 1 }, "the file is encrypted: pack it without a password"},
		"another method": {func(b []byte) { directory(b)[10] = 93 }, "the file is compressed by method 93, but only deflate (8) and none (0) are known"},
		"a wrong sum":    {func(b []byte) { directory(b)[16]++ }, "the file is damaged: zip: checksum error"},
		"a bomb": {
			func(b []byte) { binary.LittleEndian.PutUint32(directory(b)[24:], 2<<30) },
			"the file has 2147483648 bytes; the most is 1073741824",
		},
		"longer than it says":  {func(b []byte) { binary.LittleEndian.PutUint32(directory(b)[24:], 1) }, "the file is damaged: "},
		"shorter than it says": {func(b []byte) { binary.LittleEndian.PutUint32(directory(b)[24:], 1<<29) }, "the file is damaged: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := zip.NewWriter(&b)
			for _, name := range []string{"a", "b"} {
				f, err := w.Create(name)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(bytes.Repeat([]byte("x"), 1000)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			test.change(b.Bytes())
			all, _ := readAll(t, open(t, storeOf("s3://b/x.zip", b.Bytes()), actions.BatchInput{URL: "s3://b/x.zip"}), whole())
			if len(all) != 2 || all[0].Err == nil || !strings.HasPrefix(all[0].Err.Error(), test.want) || string(all[0].Key) != `"a"` {
				t.Fatalf("got %s, want %s and another row", show(all), test.want)
			}
			if all[1].Err != nil {
				t.Errorf("the other file: got %v, want no error", all[1].Err)
			}
		})
	}
}

// TestDamaged shows that an object that cannot be read on is an error of the input: that most of
// it is missing must not look like the end.
func TestDamaged(t *testing.T) {
	lines := []byte(strings.Repeat("{\"a\":1}\n", 10_000))
	tarball := tarOf(t, []string{"a", "b"}, [][]byte{make([]byte, 5000), []byte("b")})
	parquet, _ := write(t, actions.BatchOutput{Format: actions.Parquet}, answers())
	footer := int(binary.LittleEndian.Uint32([]byte(parquet[len(parquet)-8:])))
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	spoil := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0xff
		return b
	}
	for name, test := range map[string]struct {
		object string
		data   []byte
		want   string
	}{
		"a cut gzip":           {"x.ndjson.gz", cut(gzipOf(t, lines)), "it ends too early"},
		"no gzip":              {"x.ndjson.gz", lines, "it is not compressed by gzip, as its name says"},
		"no gzip, short":       {"x.ndjson.gz", []byte("{}\n"), "it is not compressed by gzip, as its name says"},
		"a spoilt gzip":        {"x.ndjson.gz", spoil(gzipOf(t, lines), 100), "it is damaged near byte"},
		"a cut tar":            {"x.tar", tarball[:3000], "it ends too early"},
		"a spoilt tar":         {"x.tar", spoil(tarball, 512*11+2), "it is damaged near byte"},
		"a cut zip":            {"x.zip", cut(zipOf(t, []string{"a"}, [][]byte{[]byte("x")})), "it cannot be read: zip: not a valid zip file"},
		"no parquet":           {"x.parquet", lines, "it is no Parquet file: it does not end in PAR1"},
		"a short parquet":      {"x.parquet", []byte("PAR1"), "it is no Parquet file: it has 4 bytes"},
		"an encrypted parquet": {"x.parquet", []byte("PAR1            PARE"), "it is encrypted: write it without a key"},
		"a long footer":        {"x.parquet", []byte("PAR1    \xff\xff\xff\x0fPAR1"), "its description has 268435455 bytes, of 16 in all"},
		"a spoilt footer":      {"x.parquet", spoil([]byte(parquet), len(parquet)-8-footer+1), "it "},
	} {
		t.Run(name, func(t *testing.T) {
			in := actions.BatchInput{URL: "s3://b/" + test.object}
			s, err := rows.Open(t.Context(), storeOf(in.URL, test.data), in)
			if err == nil {
				_, err = s.Read(t.Context(), nil, 0, whole())
			}
			if actions.CodeOf(err) != actions.Invalid || !strings.HasPrefix(err.Error(), in.URL+": "+test.want) {
				t.Errorf("got %v, want Invalid with %q", err, test.want)
			}
		})
	}
}
