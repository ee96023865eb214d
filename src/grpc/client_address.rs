//! Who called, where proxies stand between.
//!
//! A proxy appends the address that it was called from to `x-forwarded-for`. Anybody can send the header, so it counts only as far as trusted
//! proxies wrote it: from the connection's peer on, right to left, as long as each hop is one of them. The first that is not is the client.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address of a call over a connection from `peer`.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut hop = peer.to_canonical();
    let is_trusted = |hop: IpAddr| trusted.iter().any(|network| network.contains(&hop));
    // The header may come in several pieces, which are one list.
    let values = headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>();
    let mut before = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    while is_trusted(hop) {
        // What a trusted proxy did not write as an address, it does not vouch for: then it is the last of which anything is known.
        let Some(next) = before.next().and_then(address) else { break };
        hop = next;
    }
    hop
}

/// An address, perhaps with a port, as some proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    parsed.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(peer: &str, values: &[&[u8]], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    const PROXIES: &[&str] = &["10.0.0.0/8", "fd00::/8"];

    #[test]
    fn from_anybody_else_the_header_changes_nothing() {
        for header in [&b"1.1.1.1"[..], b"10.0.0.1", b"127.0.0.1", b"garbage", b""] {
            assert_eq!(of("203.0.113.9", &[header], PROXIES), "203.0.113.9");
            assert_eq!(of("127.0.0.1", &[header], PROXIES), "127.0.0.1", "not listed, not trusted");
            assert_eq!(of("10.0.0.1", &[header], &[]), "10.0.0.1");
        }
    }

    #[test]
    fn the_first_that_is_no_proxy_is_the_client_and_what_it_claims_is_not_read() {
        assert_eq!(of("10.0.0.1", &[b"203.0.113.9"], PROXIES), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &[b"1.1.1.1, 203.0.113.9"], PROXIES), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &[b"1.1.1.1,203.0.113.9 ,10.2.3.4,\t10.9.9.9"], PROXIES), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &[b"10.7.7.7, 203.0.113.9, 10.2.3.4"], PROXIES), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &[b"10.0.0.3, 10.0.0.2"], PROXIES), "10.0.0.3", "all are ours: the first of them");
        assert_eq!(of("10.0.0.1", &[], PROXIES), "10.0.0.1");
        assert_eq!(of("127.0.0.1", &[b"203.0.113.9"], &["127.0.0.1/32"]), "203.0.113.9");
    }

    #[test]
    fn several_headers_are_one_list() {
        assert_eq!(of("10.0.0.1", &[b"1.1.1.1", b"203.0.113.9", b"10.2.3.4"], PROXIES), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &[b"203.0.113.9, 10.0.0.4", b"10.2.3.4"], PROXIES), "203.0.113.9");
    }

    #[test]
    fn ipv6_mapped_addresses_and_ports_are_understood() {
        assert_eq!(of("fd00::1", &[b"2001:db8::7"], PROXIES), "2001:db8::7");
        assert_eq!(of("::ffff:10.0.0.1", &[b"::ffff:203.0.113.9"], PROXIES), "203.0.113.9");
        assert_eq!(of("10.0.0.1", &[b"[2001:db8::7]:4711, [fd00::5], 10.1.1.1:80"], PROXIES), "2001:db8::7");
    }

    #[test]
    fn what_is_no_address_ends_the_chain_at_the_nearest_good_hop() {
        for garbage in
            [&b"unknown"[..], b"", b",", b"1.2.3", b"1.2.3.4.5", b"::g", b"\xff\xfe", b"_hidden", b"203.0.113.9 x"]
        {
            assert_eq!(of("10.0.0.1", &[garbage], PROXIES), "10.0.0.1", "{}", garbage.escape_ascii());
            let behind = [b"203.0.113.9, ", garbage, b", 10.2.3.4"].concat();
            assert_eq!(of("10.0.0.1", &[&behind], PROXIES), "10.2.3.4", "{}", garbage.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_moves_the_address_of_a_stranger(header in prop::collection::vec(0x20_u8..=0xff, 0..60)) {
            prop_assume!(HeaderValue::from_bytes(&header).is_ok());
            prop_assert_eq!(of("203.0.113.9", &[&header], PROXIES), "203.0.113.9");
            // Nor does what a client sends through a proxy, which appends where it came from.
            let appended = [&header[..], b", 203.0.113.9"].concat();
            prop_assert_eq!(of("10.0.0.1", &[&appended], PROXIES), "203.0.113.9");
        }
    }
}
