//! The proxies that are trusted to name the client of a request.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The addresses of our own proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Returns the proxies on this machine.
    pub fn loopback() -> Self {
        Self(["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect())
    }

    /// Reads addresses and networks separated by commas; `loopback` stands for this machine's. Returns `None` when one
    /// can't be read.
    pub fn parse(text: &str) -> Option<Self> {
        let mut nets = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part.parse::<IpAddr>() {
                _ if part == "loopback" => nets.extend(Self::loopback().0),
                Ok(address) => nets.push(IpNet::from(address.to_canonical())),
                // An IPv4-mapped network would never match: addresses are compared in their own family.
                Err(_) => nets.push(part.parse().ok().filter(|net: &IpNet| net.addr().to_canonical() == net.addr())?),
            }
        }
        Some(Self(nets))
    }

    /// Whether an address is one of them.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Returns the client's address of a request from `peer`. Other addresses (`forwarded`, the values of
    /// X-Forwarded-For in their order) count only when `peer` is a trusted proxy: the client is the last one that isn't
    /// a trusted proxy itself. Those before it are only claimed by the client.
    pub fn client(&self, peer: IpAddr, forwarded: &[u8]) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.has(peer) {
            return peer;
        }
        let mut hops = forwarded.rsplit(|byte| *byte == b',').map(read_hop);
        hops.find(|hop| hop.is_none_or(|ip| !self.has(ip))).flatten().unwrap_or(peer)
    }
}

/// Reads an address, with or without a port.
fn read_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse().ok().map(|socket: SocketAddr| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &str, peer: &str, forwarded: &str) -> String {
        let proxies = TrustedProxies::parse(proxies).expect("proxies");
        proxies.client(peer.parse().expect("an address"), forwarded.as_bytes()).to_string()
    }

    #[test]
    fn a_forwarded_address_is_believed_only_from_a_proxy_and_only_the_last() {
        assert_eq!(client("loopback", "203.0.113.9", "198.51.100.1"), "203.0.113.9");
        assert_eq!(client("loopback", "127.0.0.1", ""), "127.0.0.1");
        assert_eq!(client("loopback", "127.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(client("loopback", "::1", "9.9.9.9, 198.51.100.1, 127.0.0.1"), "198.51.100.1");
        assert_eq!(client("loopback", "::ffff:127.0.0.1", "9.9.9.9,198.51.100.2"), "198.51.100.2");
        assert_eq!(client("loopback", "127.0.0.1", "198.51.100.1, nonsense"), "127.0.0.1");
        assert_eq!(client("loopback", "127.0.0.1", "\u{e4}, 198.51.100.1:51234"), "198.51.100.1");
        assert_eq!(client("loopback", "127.0.0.1", "[2001:db8::9]:443"), "2001:db8::9");
        assert_eq!(client("loopback", "127.0.0.1", "[2001:db8::9]"), "2001:db8::9");
        assert_eq!(
            client("10.0.0.0/8, 2001:db8::7", "10.1.2.3", "198.51.100.1, 2001:db8::7, 10.9.9.9"),
            "198.51.100.1"
        );
        assert_eq!(
            client("10.0.0.0/8", "127.0.0.1", "198.51.100.1"),
            "127.0.0.1",
            "loopback is trusted only by its word"
        );
    }

    #[test]
    fn what_is_no_address_and_no_network_is_refused() {
        for wrong in
            ["", "proxy.example.com", "10.0.0.0/33", "10.0.0.1;10.0.0.2", "10.0.0.1,,10.0.0.2", "::ffff:10.0.0.0/104"]
        {
            assert_eq!(TrustedProxies::parse(wrong), None, "{wrong:?}");
        }
    }
}
