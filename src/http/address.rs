//! From which address a request comes.

use std::net::IpAddr;

use actix_web::HttpRequest;

use crate::platform::proxies::TrustedProxies;

/// The client's address, as the proxies that are trusted tell it.
pub fn client_address(proxies: &TrustedProxies, request: &HttpRequest) -> Option<IpAddr> {
    let forwarded: Vec<&[u8]> = request.headers().get_all("x-forwarded-for").map(|value| value.as_bytes()).collect();
    Some(proxies.client(request.peer_addr()?.ip(), &forwarded.join(&b',')))
}
