//! Determines the client's address of a request.

use std::net::IpAddr;

use actix_web::HttpRequest;

use crate::platform::proxies::TrustedProxies;

/// Returns the client's address as reported by trusted proxies.
pub fn client_address(proxies: &TrustedProxies, request: &HttpRequest) -> Option<IpAddr> {
    let forwarded: Vec<&[u8]> = request.headers().get_all("x-forwarded-for").map(|value| value.as_bytes()).collect();
    Some(proxies.client(request.peer_addr()?.ip(), &forwarded.join(&b',')))
}
