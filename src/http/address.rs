//! From which address a request comes.

use std::net::IpAddr;

use actix_web::HttpRequest;

use crate::outside::proxies::TrustedProxies;

/// The client's address, as the proxies that are trusted tell it.
pub fn client_address(proxies: &TrustedProxies, request: &HttpRequest) -> Option<IpAddr> {
    let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    let forwarded: Vec<&str> = forwarded.collect();
    Some(proxies.client(request.peer_addr()?.ip(), &forwarded.join(",")))
}
