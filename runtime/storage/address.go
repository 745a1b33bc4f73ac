package storage

import (
	"net/netip"
	"slices"
)

// An addressRule knows which addresses are public.
type addressRule struct {
	refused     []netip.Prefix
	global      netip.Prefix // all IPv6 addresses that anybody has
	translation netip.Prefix // IPv4 addresses behind NAT64
	metadata    []netip.Addr // of clouds, where they are not link-local
}

// newAddressRule makes the rule of IANA's registries of special-purpose addresses
// (RFC 6890 and later), and of what clouds have put on public ones.
func newAddressRule() addressRule {
	rule := addressRule{
		global:      netip.MustParsePrefix("2000::/3"),
		translation: netip.MustParsePrefix("64:ff9b::/96"),
	}
	for _, text := range []string{
		"0.0.0.0/8",        // this host and network
		"10.0.0.0/8",       // private
		"100.64.0.0/10",    // shared by the customers of a provider; metadata of Alibaba
		"127.0.0.0/8",      // loopback
		"169.254.0.0/16",   // link-local; metadata of most clouds
		"172.16.0.0/12",    // private
		"192.0.0.0/24",     // protocols; metadata of Oracle
		"192.0.2.0/24",     // documentation
		"192.88.99.0/24",   // relays of 6to4
		"192.168.0.0/16",   // private
		"198.18.0.0/15",    // benchmarks
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, broadcast
		"168.63.129.16/32", // the host of a machine of Azure

		"2001::/23",     // protocols: Teredo, benchmarks, ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4, which may hold any of the above
		"3fff::/20",     // documentation
	} {
		rule.refused = append(rule.refused, netip.MustParsePrefix(text))
	}
	for _, text := range []string{"100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"} { // Alibaba, Oracle, Azure, AWS
		rule.metadata = append(rule.metadata, netip.MustParseAddr(text))
	}
	return rule
}

// public says whether an address is one that everybody can reach.
func (r addressRule) public(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	addr = r.plain(addr)
	if addr.Is6() && !r.global.Contains(addr) {
		return false
	}
	for _, p := range r.refused {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// plain is the IPv4 address that one of IPv6 stands for, or the address itself.
func (r addressRule) plain(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); r.translation.Contains(addr) {
		bytes := addr.As16()
		return netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return addr
}

// local says whether an address is of the network link, or one where a cloud tells a
// machine its keys: what nobody is advised to let callers reach.
func (r addressRule) local(addr netip.Addr) bool {
	addr = r.plain(addr)
	return addr.IsLinkLocalUnicast() || slices.Contains(r.metadata, addr)
}
