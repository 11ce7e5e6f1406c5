//! Every route, a line each, grouped by who calls. The lines are data: what is served, and what tests walk, is this list.
//!
//! A line is a method, an address, a handler and, for backends, its description. An address answers 405 to the methods
//! that its lines don't name (what takes GET takes HEAD, but for phones, who say what they mean); addresses are matched in the order of their first line, so a fixed one stands before one
//! with a name in its place.

use std::future::ready;

use actix_web::body::BoxBody;
use actix_web::guard::{GuardContext, fn_guard};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, Route};

use super::api::{audit, events};
use super::api::{cards, device_logs, issuers, keys, templates, workspaces};
use super::endpoint::Endpoint;
use super::internal::{health, metrics};
use super::openapi::{document, page};
use super::public::{card_page, download};
use super::{admission, apple_v1, auth, idempotency, problem, sandbox};

macro_rules! endpoints {
    ($($method:ident $path:literal $($handler:ident)::+ $(, $operation:expr)?;)*) => {
        &[$( Endpoint {
            method: stringify!($method),
            path: $path,
            operation: endpoints!(@described $($operation)?),
            route: |method| web::method(method).to($($handler)::+),
        } ),*]
    };
    (@described) => { None };
    (@described $operation:expr) => { Some(&$operation) };
}

/// Whoever runs the service, on the inner address: what a node says of itself is nobody else's.
pub const INTERNAL: &[Endpoint] = endpoints! {
    get    "/healthz"                               health::healthz;
    get    "/readyz"                                health::readyz;
    get    "/metrics"                               metrics::metrics;
};

/// What the public address says of the service: that it lives, and what its answers mean.
pub const PUBLIC: &[Endpoint] = endpoints! {
    get    "/healthz"                               health::healthz;
    get    "/problems/{code}"                       problem::problem_page;
    get    "/api/openapi.json"                      document::openapi_json;
    get    "/api/docs"                              page::api_docs;
};

/// Backends: each of these asks for an API key before anything else.
pub const BACKENDS: &[Endpoint] = endpoints! {
    get    "/api/v1/cards"                          cards::list::list, cards::list::DOC;
    post   "/api/v1/cards/bulk"                     cards::bulk::bulk, cards::bulk::DOC;
    put    "/api/v1/cards/{id}"                     cards::put::put, cards::put::DOC;
    patch  "/api/v1/cards/{id}"                     cards::patch::patch, cards::patch::DOC;
    get    "/api/v1/cards/{id}"                     cards::get::get, cards::get::DOC;
    delete "/api/v1/cards/{id}"                     cards::erase::erase, cards::erase::DOC;
    get    "/api/v1/cards/{id}/apple"               cards::get::apple, cards::get::APPLE_DOC;
    get    "/api/v1/cards/{id}/events"              cards::events::events, cards::events::DOC;
    get    "/api/v1/events"                         events::list, events::DOC;
    get    "/api/v1/audit"                          audit::list, audit::DOC;
    get    "/api/v1/cards/{id}/delivery"            cards::delivery::delivery, cards::delivery::DOC;
    get    "/api/v1/devices/logs"                   device_logs::list, device_logs::DOC;
    post   "/api/v1/templates/import"               templates::transfer::import, templates::transfer::IMPORT_DOC;
    put    "/api/v1/templates/{id}"                 templates::document::put, templates::document::PUT_DOC;
    get    "/api/v1/templates/{id}"                 templates::document::get, templates::document::GET_DOC;
    put    "/api/v1/templates/{id}/images/{role}"   templates::images::put, templates::images::PUT_DOC;
    get    "/api/v1/templates/{id}/images/{role}"   templates::images::get, templates::images::GET_DOC;
    delete "/api/v1/templates/{id}/images/{role}"   templates::images::delete, templates::images::DELETE_DOC;
    delete "/api/v1/templates/{id}"                 templates::document::delete, templates::document::DELETE_DOC;
    get    "/api/v1/templates"                      templates::collection::list, templates::collection::LIST_DOC;
    post   "/api/v1/templates"                      templates::collection::post, templates::collection::POST_DOC;
    get    "/api/v1/templates/{id}/images"          templates::images::list, templates::images::LIST_DOC;
    post   "/api/v1/templates/{id}/check"           templates::check::check, templates::check::CHECK_DOC;
    post   "/api/v1/templates/{id}/preview"         templates::check::preview, templates::check::PREVIEW_DOC;
    get    "/api/v1/templates/{id}/versions"        templates::versions::list, templates::versions::LIST_DOC;
    post   "/api/v1/templates/{id}/versions/{version}/restore"
        templates::versions::restore, templates::versions::RESTORE_DOC;
    post   "/api/v1/templates/{id}/publish"         templates::publish::publish, templates::publish::DOC;
    get    "/api/v1/templates/{id}/export"          templates::transfer::export, templates::transfer::EXPORT_DOC;
    post   "/api/v1/workspaces"                     workspaces::create, workspaces::DOC;
    get    "/api/v1/keys"                           keys::list::list, keys::list::DOC;
    post   "/api/v1/keys"                           keys::create::create, keys::create::DOC;
    delete "/api/v1/keys/{id}"                      keys::revoke::revoke, keys::revoke::DOC;
    get    "/api/v1/issuers/apple"                  issuers::apple::get, issuers::apple::GET_DOC;
    put    "/api/v1/issuers/apple"                  issuers::apple::put, issuers::apple::PUT_DOC;
    delete "/api/v1/issuers/apple/{fingerprint}"    issuers::apple::delete, issuers::apple::DELETE_DOC;
};

/// Phones, below [`PHONE_BASES`].
pub const PHONES: &[Endpoint] = endpoints! {
    post   "/devices/{device}/registrations/{pass_type}/{serial}"   apple_v1::register::register;
    delete "/devices/{device}/registrations/{pass_type}/{serial}"   apple_v1::unregister::unregister;
    get    "/devices/{device}/registrations/{pass_type}"            apple_v1::changed::changed;
    get    "/passes/{pass_type}/{serial}"                           apple_v1::latest::latest;
    head   "/passes/{pass_type}/{serial}"                           apple_v1::latest::latest;
    post   "/log"                                                   apple_v1::log::log;
};

/// Phones join the address in the pass and `/v1` with one slash; some readers leave two.
pub const PHONE_BASES: [&str; 2] = ["/apple/v1", "/apple//v1"];

/// Customers with a browser.
pub const CUSTOMERS: &[Endpoint] = endpoints! {
    get    "/c/{token}/card.pkpass"                 download::card_pkpass;
    get    "/c/{token}/google"                      card_page::google;
    get    "/c/{token}/card.css"                    card_page::style_sheet;
    get    "/c/{token}/{role}.png"                  card_page::picture;
    get    "/c/{token}"                             card_page::page;
    get    "/assets/{name}"                         card_page::assets;
};

/// The sandbox's simulated phones.
pub const SANDBOX: &[Endpoint] = endpoints! {
    get    "/sandbox/devices/{token}/pushes"        sandbox::pushes;
};

/// The first parts of all addresses, those to come among them: a public address with a path doesn't begin with one of them.
pub fn areas() -> impl Iterator<Item = &'static str> {
    let lists = [INTERNAL, PUBLIC, BACKENDS, CUSTOMERS, SANDBOX];
    let paths = lists.into_iter().flatten().map(|endpoint| endpoint.path).chain(PHONE_BASES);
    paths.filter_map(|path| path.split('/').nth(1)).chain(["l", "studio", "google"])
}

/// Whether an address without names is one of the pattern's.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern
            .iter()
            .zip(&path)
            .all(|(wanted, part)| wanted == part || wanted.starts_with('{') && !part.contains('{'))
}

/// Which routes an address serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// What everybody may reach.
    Public,
    /// What those who run the service reach.
    Internal,
    /// Both, on one address.
    Everything,
}

impl Served {
    /// Adds its routes.
    pub fn add_to(self, config: &mut ServiceConfig) {
        if self != Self::Internal {
            public(config);
        }
        if self != Self::Public {
            // Where both are served, the first of two equal addresses answers.
            add(config, "", INTERNAL, Heads::AsGets, |route, _| route);
        }
        config.default_service(web::to(problem::not_found));
    }
}

fn public(config: &mut ServiceConfig) {
    // Addresses are tried one after the other, and nobody asks as often as phones do.
    for base in PHONE_BASES {
        add(config, base, PHONES, Heads::Listed, |route, _| route);
    }
    add(config, "", PUBLIC, Heads::AsGets, |route, _| route);
    add(config, "", BACKENDS, Heads::AsGets, for_backends);
    add(config, "", CUSTOMERS, Heads::AsGets, |route, _| route);
    add(config, "", SANDBOX, Heads::Listed, |route, _| route);
}

/// What stands around every route of backends: who asks, whether it is a repeat, and whether there is room for it.
fn for_backends(route: Route, endpoint: &Endpoint) -> Route {
    let route = match endpoint.operation {
        Some(operation) => {
            route.wrap(from_fn(move |request, next: Next<BoxBody>| admission::admitted(operation, request, next)))
        }
        None => route,
    };
    let route = match endpoint.operation {
        Some(operation) if idempotency::applies(operation) => {
            route.wrap(from_fn(move |request, next: Next<BoxBody>| idempotency::once(operation, request, next)))
        }
        _ => route,
    };
    route.wrap(from_fn(auth::authenticated))
}

/// Which of a group's addresses take HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heads {
    /// Those that take GET: the same answer without its body.
    AsGets,
    /// Those whose lines say so.
    Listed,
}

fn methods_of(endpoint: &Endpoint, heads: Heads) -> Vec<Method> {
    let method = Method::from_bytes(endpoint.method.to_uppercase().as_bytes()).unwrap_or_default();
    let head = (method == Method::GET && heads == Heads::AsGets).then_some(Method::HEAD);
    [method].into_iter().chain(head).collect()
}

fn add(
    config: &mut ServiceConfig,
    base: &str,
    endpoints: &[Endpoint],
    heads: Heads,
    around: fn(Route, &Endpoint) -> Route,
) {
    let mut paths: Vec<&str> = Vec::new();
    for endpoint in endpoints {
        if !paths.contains(&endpoint.path) {
            paths.push(endpoint.path);
        }
    }
    for path in paths {
        let here = endpoints.iter().filter(|endpoint| endpoint.path == path);
        let methods: Vec<Method> = here.clone().flat_map(|endpoint| methods_of(endpoint, heads)).collect();
        let knows = |path: &str| {
            let fitting = endpoints.iter().filter(|endpoint| endpoint.path == path || fits(endpoint.path, path));
            let methods = fitting.flat_map(|endpoint| methods_of(endpoint, heads));
            methods.map(|method| method.to_string()).collect::<Vec<_>>().join(", ")
        };
        // Of the addresses without names that also fit this one, those that know more methods.
        let special = endpoints.iter().map(|other| other.path).filter(|other| *other != path && fits(path, other));
        let special: Vec<(String, String)> = special.map(|other| (format!("{base}{other}"), knows(other))).collect();
        let own = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let otherwise = web::to(move |request: HttpRequest| {
            let known = special.iter().find(|(address, _)| address == request.path());
            ready(problem::method_not_allowed(known.map_or(&own, |(_, allowed)| allowed)))
        });
        let resource = web::resource(format!("{base}{path}")).default_service(otherwise);
        // An address that also fits a later one with a name in its place takes its own methods only: a card may be called
        // `bulk`.
        let resource = match endpoints.iter().any(|other| other.path != path && fits(other.path, path)) {
            false => resource,
            true => {
                resource.guard(fn_guard(move |context: &GuardContext<'_>| methods.contains(&context.head().method)))
            }
        };
        let routes =
            here.flat_map(|endpoint| methods_of(endpoint, heads).into_iter().map(move |method| (endpoint, method)));
        config.service(
            routes.fold(resource, |resource, (endpoint, method)| {
                resource.route(around((endpoint.route)(method), endpoint))
            }),
        );
    }
}
