package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/deepfn/deepfn/actions"
)

func TestFetch(t *testing.T) {
	o := newOutside(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = r.URL.Query()["type"]
		w.Header()["Content-Disposition"] = r.URL.Query()["disposition"]
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, r.Header.Get("Accept-Encoding"))
	})
	for name, tt := range map[string]struct {
		url, body string
		want      actions.File
	}{
		"name and type": {
			"https://example.com/in/line.png?type=image/png", "GET /in/line.png identity",
			actions.File{Filename: "line.png", ContentType: "image/png"},
		},
		"a name in the header": {
			"https://example.com/x?type=a/b&disposition=attachment%3B+filename%3D%22..%2F%C3%A9.txt%22", "GET /x identity",
			actions.File{Filename: "é.txt", ContentType: "a/b"},
		},
		"a wrong name in the header": {
			"https://example.com/x.bin?type=a/b&disposition=attachment%3B+filename%3D..", "GET /x.bin identity",
			actions.File{Filename: "x.bin", ContentType: "a/b"},
		},
		"neither":            {"https://example.com/?type=-", "GET / identity", actions.File{}},
		"no path":            {"https://example.com?type=-", "GET / identity", actions.File{}},
		"other letters":      {"HTTPS://Example.COM/a%20b?type=-", "GET /a b identity", actions.File{Filename: "a b"}},
		"a port":             {"https://example.com:443/a?type=-", "GET /a identity", actions.File{Filename: "a"}},
		"another port":       {"https://example.com:8443/a?type=-", "GET /a identity", actions.File{Filename: "a"}},
		"a fragment":         {"https://example.com/a?type=-#part", "GET /a identity", actions.File{Filename: "a"}},
		"a control in it":    {"https://example.com/a%0ab?type=-", "GET /a\nb identity", actions.File{}},
		"a name without end": {"https://example.com/" + strings.Repeat("n", 300) + "?type=-", "GET /" + strings.Repeat("n", 300) + " identity", actions.File{}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			got, err := o.Fetch(t.Context(), tt.url, &b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("file (-want +got):\n%s", diff)
			}
			if b.String() != tt.body {
				t.Errorf("got %q, want %q", b.String(), tt.body)
			}
		})
	}
}

// TestFetchWrongURL shows what is refused before anybody is asked.
func TestFetchWrongURL(t *testing.T) {
	deep := strings.Repeat("25", 9)
	o := newOutside(t, Config{}, answer("no"))
	for url, want := range map[string]struct {
		code actions.Code
		says string
	}{
		"":                                           {actions.Invalid, "has no scheme"},
		"line.png":                                   {actions.Invalid, "has no scheme"},
		"//example.com/a":                            {actions.Invalid, "has no scheme"},
		"https:example.com":                          {actions.Invalid, "no host"},
		"https:///etc/passwd":                        {actions.Invalid, "no host"},
		"https://:443/":                              {actions.Invalid, "no host"},
		"https://example.com:http/":                  {actions.Invalid, "is none"},
		"https://exa mple.com/":                      {actions.Invalid, "is none"},
		"https://example.com/%zz":                    {actions.Invalid, "is none"},
		"https://example.com/\x7f":                   {actions.Invalid, "is none"},
		"https://me:secret@example.com/":             {actions.Invalid, "a name or password"},
		"https://example.com/a/../b":                 {actions.Invalid, "dot segments"},
		"https://example.com/a/%2e%2E/b":             {actions.Invalid, "dot segments"},
		"https://example.com/a%2f..%2fb":             {actions.Invalid, "dot segments"},
		`https://example.com/a\..\b`:                 {actions.Invalid, "dot segments"},
		"https://example.com/a/..;x/b":               {actions.Invalid, "dot segments"},
		"https://example.com/a/%252e%252e/b":         {actions.Invalid, "dot segments"},
		"https://example.com/a/%252e./b":             {actions.Invalid, "dot segments"},
		"https://a.test/%25z/%25252e%25252e%25252fb": {actions.Invalid, "dot segments"},
		"http://169.254.169.254/a":                   {actions.Forbidden, "no public address, and the server does not reach it"},
		"file:///etc/passwd":                         {actions.Forbidden, "--allow-url file:///FOLDER/"},
		"file://host/etc/passwd":                     {actions.Invalid, "no file:///path"},
		"file:etc/passwd":                            {actions.Invalid, "no file:///path"},
		"ftp://example.com/a":                        {actions.Invalid, "neither an https URL nor one of"},
		"gopher://example.com/":                      {actions.Invalid, "neither an https URL nor one of"},
		"data:,a":                                    {actions.Invalid, "no host"},
		"http://example.com/a":                       {actions.Forbidden, "--allow-url http://example.com/"},
		"https://" + strings.Repeat("a", 9000):       {actions.Invalid, "8192 bytes"},
		"s3://bucket/key":                            {actions.Forbidden, "--allow-url s3://bucket/"},
		"https://a.test/%" + deep + "41":             {actions.Invalid, "dot segments"},
	} {
		wantError(t, o.MayStore(url), want.code, want.says)
		_, err := o.Fetch(t.Context(), url, io.Discard)
		wantError(t, err, want.code, want.says)
	}
	if got := o.network.dials(); len(got) > 0 {
		t.Errorf("dialled %q", got)
	}
}

// notPublic are addresses that no caller may reach.
func notPublic() []string {
	return []string{
		"127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "169.254.169.254",
		"169.254.170.2", "172.16.0.1", "172.31.255.255", "192.168.1.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16", "192.88.99.1",
		"::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "2001::1", "2001:2::1",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
		"64:ff9b:1::a00:1", "2002:7f00:1::", "2002:5db8:d822::1", "100::1", "fec0::1", "5f00::1",
	}
}

// neverAdvised says of a refused address that no message tells how to allow it.
func neverAdvised(text string) bool {
	return slices.Contains([]string{
		"169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1",
		"100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254",
	}, text)
}

func TestAddresses(t *testing.T) {
	rule := newAddressRule()
	for _, text := range notPublic() {
		if rule.public(netip.MustParseAddr(text)) {
			t.Errorf("%s: got public", text)
		}
	}
	for _, text := range []string{
		publicAddr, "1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "192.0.1.1", "223.255.255.255",
		"2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
	} {
		if !rule.public(netip.MustParseAddr(text)) {
			t.Errorf("%s: got not public", text)
		}
	}
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("2606:4700::1111%1")} {
		if rule.public(addr) {
			t.Errorf("%s: got public", addr)
		}
	}
}

// TestRefusedAddresses shows that an address is refused that stands in the URL, and one
// that a name has, and that nobody is dialled.
func TestRefusedAddresses(t *testing.T) {
	o := newOutside(t, Config{}, answer("no"))
	for _, text := range notPublic() {
		host := text
		if strings.Contains(text, ":") {
			host = "[" + text + "]"
		}
		url := "https://" + host + "/latest/meta-data?token=secret"
		_, err := o.Fetch(t.Context(), url, io.Discard)
		advice, named := "--allow-url https://"+host+"/", "--allow-url https://named.test/"
		if neverAdvised(text) {
			advice, named = "the server does not reach it", "the server does not reach it"
		}
		wantError(t, err, actions.Forbidden, advice)
		wantError(t, o.MayStore(url), actions.Forbidden, "no public address")
		wantError(t, o.Store(t.Context(), url, actions.File{Data: []byte("x")}), actions.Forbidden, "no public address")

		o.network.names.answers["named.test"] = [][]netip.Addr{addrs(text)}
		_, err = o.Fetch(t.Context(), "https://named.test/?token=secret", io.Discard)
		wantError(t, err, actions.Forbidden, named)
		wantError(t, o.Store(t.Context(), "https://named.test/", actions.File{}), actions.Forbidden, "no public address")
		if strings.Contains(err.Error(), text) && len(text) > 4 {
			t.Errorf("%v tells the address", err)
		}
	}
	for _, host := range []string{"localhost", "LOCALHOST.", "a.localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"} {
		o.network.names.answers[host] = [][]netip.Addr{addrs("127.0.0.1")} // as the C library reads numbers
		_, err := o.Fetch(t.Context(), "https://"+host+"/", io.Discard)
		wantError(t, err, actions.Forbidden, "no public address")
	}
	if got := o.network.dials(); len(got) > 0 {
		t.Errorf("dialled %q", got)
	}
	if log := o.log.String(); !strings.Contains(log, "169.254.169.254") || strings.Contains(log, "secret") {
		t.Errorf("got log %s, want the refused addresses and no query", log)
	}
}

// TestSomeAddressesRefused shows that the public ones of a name's addresses are used.
func TestSomeAddressesRefused(t *testing.T) {
	o := newOutside(t, Config{}, answer("yes"))
	o.network.names.answers["example.com"] = [][]netip.Addr{addrs("10.0.0.1", "::1", "::ffff:"+publicAddr)}
	var b bytes.Buffer
	if _, err := o.Fetch(t.Context(), "https://example.com/", &b); err != nil || b.String() != "yes" {
		t.Errorf("got %q, %v", b.String(), err)
	}
	if diff := cmp.Diff([]string{publicAddr + ":443"}, o.network.dials()); diff != "" {
		t.Errorf("dialled (-want +got):\n%s", diff)
	}
}

// TestControl shows that the socket of the default dialer looks at its own address.
func TestControl(t *testing.T) {
	w := newWeb(Config{}, nil)
	for address, want := range map[string]error{
		"127.0.0.1:443": errRefused, "[::1]:443": errRefused, "169.254.169.254:80": errRefused, "[::ffff:10.0.0.1]:1": errRefused,
		"no address": errRefused, publicAddr + ":443": nil, "[2606:4700::1111]:443": nil,
	} {
		if err := w.control(t.Context(), "tcp", address, nil); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", address, err, want)
		}
	}
	srv := httptest.NewServer(answer("no"))
	defer srv.Close()
	d := dialer{dial: w.dialer(true), may: everyAddress}
	if conn, err := d.connect(t.Context(), "tcp", srv.Listener.Addr().String()); !errors.Is(err, errRefused) {
		t.Errorf("got %v, %v, want the socket to be refused", conn, err)
	}
}

// TestRebinding shows that a name whose address has become another is refused then.
func TestRebinding(t *testing.T) {
	o := newOutside(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that the next request needs another
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/inside", http.StatusFound)
		}
	})
	rebind := func() { o.network.names.answers["example.com"] = [][]netip.Addr{addrs(publicAddr), addrs("127.0.0.1")} }
	rebind()
	_, err := o.Fetch(t.Context(), "https://example.com/redirect", io.Discard)
	wantError(t, err, actions.Forbidden, "no public address")

	rebind()
	if _, err = o.Fetch(t.Context(), "https://example.com/", io.Discard); err != nil {
		t.Error(err)
	}
	_, err = o.Fetch(t.Context(), "https://example.com/", io.Discard)
	wantError(t, err, actions.Forbidden, "no public address")
}

// TestAllowedConnections shows that a connection that a prefix has opened is of no use for
// other URLs of that server.
func TestAllowedConnections(t *testing.T) {
	srv := httptest.NewServer(answer("inside"))
	defer srv.Close()
	s := newStorage(t, Config{Allow: []string{srv.URL + "/free/"}})
	var b bytes.Buffer
	if _, err := s.Fetch(t.Context(), srv.URL+"/free/a", &b); err != nil || b.String() != "inside" {
		t.Errorf("got %q, %v", b.String(), err)
	}
	_, err := s.Fetch(t.Context(), srv.URL+"/other", io.Discard)
	wantError(t, err, actions.Forbidden, "is not https")

	o := newOutside(t, Config{Allow: []string{"https://example.com/free/"}}, answer("inside"))
	o.network.names.answers["example.com"] = [][]netip.Addr{addrs("10.0.0.1")}
	o.network.server, o.web().free.DialContext = "", o.web().public.DialContext
	_, err = o.Fetch(t.Context(), "https://example.com/other", io.Discard)
	wantError(t, err, actions.Forbidden, "no public address")
}

func TestRedirects(t *testing.T) {
	inside := httptest.NewServer(answer("secret of the inside"))
	defer inside.Close()
	o := newOutside(t, Config{Allow: []string{"http://plain.test/free/"}}, func(w http.ResponseWriter, r *http.Request) {
		to := r.URL.Query().Get("to")
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		switch {
		case to != "":
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		case n > 0:
			http.Redirect(w, r, fmt.Sprintf("/x?n=%d", n-1), http.StatusTemporaryRedirect)
		default:
			_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+r.Header.Get("Referer"))
		}
	})
	for to, want := range map[string]struct {
		code actions.Code
		says string
	}{
		inside.URL:                        {actions.Forbidden, "is not https"},
		"https://127.0.0.1/":              {actions.Forbidden, "no public address"},
		"https://[::ffff:127.0.0.1]/":     {actions.Forbidden, "no public address"},
		"http://169.254.169.254/latest":   {actions.Forbidden, "no public address"},
		"https://169.254.169.254/latest":  {actions.Forbidden, "no public address"},
		"//10.0.0.1/":                     {actions.Forbidden, "no public address"},
		"file:///etc/passwd":              {actions.Forbidden, "redirects to file:///etc/passwd"},
		"s3://bucket/key":                 {actions.Forbidden, "redirects to s3://bucket/key"},
		"https://a:b@example.com/":        {actions.Invalid, "name or password"},
		"https://example.com:port/":       {actions.Invalid, "no URL"},
		"https://nowhere.test/":           {actions.Unavailable, "no address of nowhere.test"},
		"http://plain.test/free/%2e%2e/x": {actions.Invalid, "dot segments"},
		"http://plain.test/freedom":       {actions.Forbidden, "is not https"},
	} {
		_, err := o.Fetch(t.Context(), "https://example.com/?to="+url.QueryEscape(to), io.Discard)
		wantError(t, err, want.code, want.says)
	}
	var b bytes.Buffer
	if _, err := o.Fetch(t.Context(), "https://example.com/?n=5", &b); err != nil || b.String() != "GET /x" {
		t.Errorf("five redirects: got %q, %v", b.String(), err)
	}
	_, err := o.Fetch(t.Context(), "https://example.com/?n=6", io.Discard)
	wantError(t, err, actions.Invalid, "redirects more than 5 times")
	for _, address := range o.network.dials() {
		if address != publicAddr+":443" {
			t.Errorf("dialled %s", address)
		}
	}
}

func TestStore(t *testing.T) {
	var mu sync.Mutex
	var got []string
	o := newOutside(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, fmt.Sprintf("%s %s %s %d %s", r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.ContentLength, body))
		mu.Unlock()
		switch r.URL.Path {
		case "/temporary":
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
		case "/inside":
			http.Redirect(w, r, "https://192.168.0.1/", http.StatusPermanentRedirect)
		case "/found":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "/full":
			w.WriteHeader(http.StatusInsufficientStorage)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	})
	for _, tt := range []struct {
		path, contentType, data string
		code                    actions.Code
		says                    string
		want                    []string
	}{
		{"/there", "image/png", "abc", "", "", []string{"PUT /there image/png 3 abc"}},
		{"/there", "", "", "", "", []string{"PUT /there application/octet-stream 0 "}},
		{"/temporary", "a/b", "abc", "", "", []string{"PUT /temporary a/b 3 abc", "PUT /there a/b 3 abc"}},
		{"/inside", "a/b", "abc", actions.Forbidden, "no public address", []string{"PUT /inside a/b 3 abc"}},
		{"/found", "a/b", "abc", actions.Invalid, "answered 302 Found", []string{"PUT /found a/b 3 abc"}},
		{"/forbidden", "a/b", "abc", actions.Forbidden, "answered 403 Forbidden", []string{"PUT /forbidden a/b 3 abc"}},
		{"/full", "a/b", "abc", actions.Unavailable, "answered 507", []string{"PUT /full a/b 3 abc"}},
	} {
		got = nil
		err := o.Store(t.Context(), "https://example.com"+tt.path, actions.File{ContentType: tt.contentType, Data: []byte(tt.data)})
		if tt.code != "" {
			wantError(t, err, tt.code, tt.says)
		} else if err != nil {
			t.Errorf("%s: %v", tt.path, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", tt.path, diff)
		}
	}
}
