package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// otherSite is the answer to a request that crossSite refuses.
const otherSite = "a page of another site has made this request; only programs and pages of this server may"

// crossSite says whether a page of another site has had a browser make a request, which
// must neither give a server of a laptop code to run nor read what that server knows.
//
// A browser says what it does: Sec-Fetch-Site, which no page can set, and to servers
// without TLS at least Origin with each POST. Neither helps when the page's own name leads
// to this machine (DNS rebinding), so a server that listens on a loopback address answers
// browsers under no other names than those of this machine. With a GET a browser may say
// nothing; all others are programs, which may call the server what they like, as a proxy
// in front of it does.
func crossSite(r *request) bool {
	site, origin := r.headerText("Sec-Fetch-Site"), r.headerText("Origin")
	if site == "" && origin == "" && r.method != http.MethodGet && r.method != http.MethodHead {
		return false
	}
	if r.loopback && !isLocalName(r.headerText("Host")) {
		return true
	}
	switch site {
	case "same-origin":
		return false // also behind a proxy that changes Host
	case "", "none":
	default: // cross-site, same-site
		return true
	}
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.headerText("Host"))
}

// headerText returns the first value of a header, "" when there is none.
func (r *request) headerText(name string) string {
	switch {
	case r.peek != nil: // takes no memory for what is not there
		return strings.TrimSpace(string(r.peek.Peek(name)))
	case r.header == nil:
		return ""
	}
	return r.firstHeader(name)
}

func (r *request) firstHeader(name string) (text string) {
	first := true
	r.header(name, func(_, value string) {
		if first {
			text, first = strings.TrimSpace(value), false
		}
	})
	return text
}

// isLocalName says whether a Host names this machine, or is an address, which no name
// server had a say in.
func isLocalName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// isLoopback says whether only this machine reaches what listens on an address.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
