//! The OpenAPI document, made of what the routes of backends say of themselves.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::{page, schemas};
use crate::app::App;
use crate::http::endpoint::Endpoint;
use crate::http::fixed::{self, Contents, Fixed};
use crate::http::problem::Problem;

/// Returns the whole document of a service at that address.
pub fn document(public_url: &str, backends: &[Endpoint]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for Endpoint { method, path, operation, .. } in backends {
        let Some(operation) = operation else { continue };
        let item = paths.entry(*path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert((*method).to_owned(), operation.document());
        }
    }
    let schemas: Map<String, Value> = schemas::ALL.iter().map(|s| (s.name.to_owned(), (s.make)())).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Passloom",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Digital wallet passes that refresh by themselves.",
            "description": "The loyalty backend computes points and tiers and sets them here; Passloom shows them on the \
                cards in customers' phones. Values are set, never added to, so a repeated call does no harm. Errors are \
                problem documents (RFC 9457) with every problem of a request at once; then nothing was stored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url}],
        "tags": page::TAGS.iter().map(|(name, text)| json!({"name": name, "description": text})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key of the workspace."}},
        },
    })
}

/// `GET /api/openapi.json`: the document, made once.
///
/// # Errors
/// When it can't be written, which is a fault of ours.
pub async fn openapi_json(
    app: web::Data<App>,
    contents: Contents,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let made = fixed::once(&contents.openapi, || {
        Ok(Fixed::new("application/json", document(&app.public_url, contents.backends).to_string()))
    })?;
    Ok(made.answer(&request, &[("access-control-allow-origin", "*")]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::openapi::Place;
    use crate::http::routes::BACKENDS;

    #[test]
    fn every_route_of_backends_is_described_once() {
        let mut ids = BTreeSet::new();
        for Endpoint { method, path, operation, .. } in BACKENDS {
            let operation = operation.unwrap_or_else(|| unreachable!("{method} {path} has no description"));
            assert!(ids.insert(operation.id), "{} describes two routes", operation.id);
            let named: BTreeSet<&str> =
                operation.parameters.iter().filter(|p| p.place == Place::Path).map(|p| p.name).collect();
            let there: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            assert_eq!(named, there, "{method} {path}");
            assert!(page::TAGS.iter().any(|(tag, _)| *tag == operation.tag), "{}", operation.tag);
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_shape_is_used() {
        let document = document("http://localhost", BACKENDS);
        let mut used = BTreeSet::new();
        let mut rest = vec![&document];
        while let Some(value) = rest.pop() {
            match value {
                Value::Object(map) => {
                    used.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    rest.extend(map.values());
                }
                Value::Array(items) => rest.extend(items),
                _ => {}
            }
        }
        let known: BTreeSet<String> =
            schemas::ALL.iter().map(|schema| format!("#/components/schemas/{}", schema.name)).collect();
        assert_eq!(used, known);
    }
}
