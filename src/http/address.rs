//! From which address a request comes.

use std::net::IpAddr;

use actix_web::HttpRequest;

/// The client's address. A forwarded one is believed only from a proxy on this machine, and of several the last that no
/// such proxy added: those before it are the client's own word.
pub fn client_address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    if !peer.is_loopback() {
        return Some(peer);
    }
    let forwarded: Vec<&str> =
        request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    let forwarded = forwarded.join(",");
    let mut hops = forwarded.rsplit(',').map(|hop| hop.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical()));
    hops.find(|hop| hop.is_none_or(|ip| !ip.is_loopback())).flatten().or(Some(peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let mut request = TestRequest::default().peer_addr(peer.parse().expect("an address"));
        for value in forwarded {
            request = request.append_header(("x-forwarded-for", *value));
        }
        client_address(&request.to_http_request()).map(|ip| ip.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_forwarded_address_is_believed_only_from_a_proxy_and_only_the_last() {
        assert_eq!(address("203.0.113.9:1", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(address("127.0.0.1:1", &[]), "127.0.0.1");
        assert_eq!(address("127.0.0.1:1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(address("[::1]:1", &["9.9.9.9, 198.51.100.1, 127.0.0.1"]), "198.51.100.1");
        assert_eq!(address("127.0.0.1:1", &["9.9.9.9", "198.51.100.2"]), "198.51.100.2");
        assert_eq!(address("127.0.0.1:1", &["198.51.100.1, nonsense"]), "127.0.0.1");
    }
}
