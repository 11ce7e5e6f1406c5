//! Every route, a line each, grouped by who calls.

use actix_web::Resource;
use actix_web::web::{self, ServiceConfig, delete, get, head, patch, post, put};

use super::{api, apple_v1, health, public, sandbox};

/// Adds all routes.
pub fn all(config: &mut ServiceConfig) {
    operators(config);
    backends(config);
    // Phones join the address in the pass and `/v1` with one slash; some readers leave two.
    phones(config, "/apple/v1");
    phones(config, "/apple//v1");
    customers(config);
    config.service(at("/sandbox/devices/{token}/pushes").route(get().to(sandbox::pushes)));
    config.default_service(web::to(health::not_found));
}

/// A resource that answers 405 to methods it doesn't know.
fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::to(health::method_not_allowed))
}

fn operators(config: &mut ServiceConfig) {
    config
        .service(at("/healthz").route(get().to(health::healthz)).route(head().to(health::healthz)))
        .service(at("/readyz").route(get().to(health::readyz)).route(head().to(health::readyz)))
        .service(at("/metrics").route(get().to(health::metrics)))
        .service(at("/problems/{code}").route(get().to(health::problem_page)));
}

fn backends(config: &mut ServiceConfig) {
    use api::{cards, templates};
    config
        .service(
            at("/api/v1/cards/{id}")
                .route(put().to(cards::put::put))
                .route(patch().to(cards::patch::patch))
                .route(get().to(cards::get::get)),
        )
        .service(at("/api/v1/cards/{id}/apple").route(get().to(cards::get::apple)).route(head().to(cards::get::apple)))
        .service(
            at("/api/v1/templates/{id}")
                .route(put().to(templates::document::put))
                .route(get().to(templates::document::get)),
        )
        .service(
            at("/api/v1/templates/{id}/images/{role}")
                .route(put().to(templates::images::put))
                .route(get().to(templates::images::get))
                .route(delete().to(templates::images::delete)),
        )
        .service(at("/api/v1/templates/{id}/publish").route(post().to(templates::publish::publish)));
}

fn phones(config: &mut ServiceConfig, base: &str) {
    let path = |rest: &str| format!("{base}{rest}");
    config
        .service(
            at(&path("/devices/{device}/registrations/{pass_type}/{serial}"))
                .route(post().to(apple_v1::register::register))
                .route(delete().to(apple_v1::unregister::unregister)),
        )
        .service(at(&path("/devices/{device}/registrations/{pass_type}")).route(get().to(apple_v1::changed::changed)))
        .service(
            at(&path("/passes/{pass_type}/{serial}"))
                .route(get().to(apple_v1::latest::latest))
                .route(head().to(apple_v1::latest::latest)),
        )
        .service(at(&path("/log")).route(post().to(apple_v1::log::log)));
}

fn customers(config: &mut ServiceConfig) {
    use public::{card_page, download};
    config
        .service(
            at("/c/{token}/card.pkpass").route(get().to(download::card_pkpass)).route(head().to(download::card_pkpass)),
        )
        .service(at("/c/{token}/google").route(get().to(card_page::google)).route(head().to(card_page::google)))
        .service(at("/c/{token}/card.css").route(get().to(card_page::style_sheet)))
        .service(at("/c/{token}/{role}.png").route(get().to(card_page::picture)))
        .service(at("/c/{token}").route(get().to(card_page::page)).route(head().to(card_page::page)))
        .service(at("/assets/{name}").route(get().to(card_page::assets)));
}
