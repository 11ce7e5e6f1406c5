//! Holds every answer of the API that any test sees against what its operation announces: the status, the media type and
//! the shape. So the OpenAPI document can't drift from the code.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use passloom::http::openapi::{Content, Operation, document, schemas};
use passloom::http::routes::BACKENDS;
use serde_json::{Value, json};

use super::service::Answer;

/// The operation that serves a request, if it is one of the API's.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Operation)> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |pattern: &str| {
        let wanted: Vec<&str> = pattern.split('/').collect();
        wanted.len() == parts.len()
            && wanted
                .iter()
                .zip(&parts)
                .all(|(wanted, part)| wanted == part || (wanted.starts_with('{') && !part.is_empty()))
    };
    let endpoint = BACKENDS.iter().find(|endpoint| fits(endpoint.path))?;
    let endpoint = BACKENDS.iter().find(|e| e.path == endpoint.path && e.method.eq_ignore_ascii_case(method))?;
    Some((endpoint.path, endpoint.operation?))
}

fn validator(name: &'static str) -> Arc<Validator> {
    static MADE: LazyLock<Mutex<HashMap<&str, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    static COMPONENTS: LazyLock<Value> =
        LazyLock::new(|| document::document("http://localhost", BACKENDS)["components"].clone());
    let mut made = MADE.lock().unwrap();
    let validator = made.entry(name).or_insert_with(|| {
        let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": *COMPONENTS});
        Arc::new(jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
    });
    Arc::clone(validator)
}

fn assert_shape(place: &str, name: &'static str, body: &Value) {
    let validator = validator(name);
    let errors: Vec<String> = validator.iter_errors(body).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{place} is no {name}: {errors:#?} in {body:#}");
}

/// # Panics
/// When the answer is one that the document doesn't announce.
pub fn assert_announced(method: &str, path: &str, answer: &Answer) {
    let Some((pattern, operation)) = operation(method, path) else { return };
    let place = format!("{method} {pattern} ({})", answer.status);
    let media_type = answer.header("content-type").split(';').next().unwrap_or_default().trim();
    if answer.status >= 400 {
        let known = operation.all_problems().iter().any(|kind| kind.status == answer.status);
        assert!(known, "{place} is a problem that isn't announced: {}", answer.json());
        assert_eq!(media_type, "application/problem+json", "{place}");
        return assert_shape(&place, schemas::PROBLEM.name, &answer.json());
    }
    let Some(announced) = operation.answers.iter().find(|announced| announced.status == answer.status) else {
        panic!("{place} is not announced");
    };
    match announced.content {
        Content::Nothing => assert_eq!(answer.body.len(), 0, "{place}"),
        Content::Json(schema) => {
            assert_eq!(media_type, "application/json", "{place}");
            assert_shape(&place, schema.name, &answer.json());
        }
        Content::Lines(schema) => {
            assert_eq!(media_type, "application/x-ndjson", "{place}");
            for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                assert_shape(&place, schema.name, &serde_json::from_slice(line).unwrap());
            }
        }
        Content::Bytes(types) => assert!(types.contains(&media_type), "{place}: {media_type}"),
    }
}
