//! The API's documentation for people: one page, made from the same data as the OpenAPI document. It needs no network
//! and no JavaScript.

use std::fmt::Write as _;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::{Content, Operation, Place, Schema, schemas};
use crate::app::{App, path_of};
use crate::http::endpoint::Endpoint;
use crate::http::fixed::{self, Contents, Fixed};
use crate::http::problem::{FAULT, Problem};
use crate::http::public::pages::CONTENT_SECURITY_POLICY;

/// The headings, in their order, with what stands below each.
pub const TAGS: &[(&str, &str)] = &[
    ("Cards", "One member's card: what is printed on it, its state, and whether phones show it."),
    ("Templates", "Card designs: a draft that you change, and published versions that cards show."),
    ("Events", "What happened, in an order in which nothing that commits later comes earlier."),
    (
        "Workspaces and keys",
        "A workspace is one business, and no key reaches out of its own. Keys carry what they allow.",
    ),
];

/// The page.
#[derive(Debug, Template)]
#[template(path = "pages/api.html")]
pub struct ApiPage {
    /// The service's address.
    pub base: String,
    /// The path in it.
    pub root: String,
    /// The version of the service.
    pub version: &'static str,
    /// What is described.
    pub sections: Vec<Section>,
    /// The named shapes.
    pub shapes: Vec<Shape>,
}

/// A heading and its operations.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Section {
    pub name: &'static str,
    pub anchor: String,
    pub text: &'static str,
    pub operations: Vec<Described>,
}

/// An operation as the page shows it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Described {
    pub id: &'static str,
    pub method: String,
    pub path: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub needs: String,
    pub parameters: Vec<[String; 3]>,
    pub body: Option<Linked>,
    pub answers: Vec<(u16, String, Option<Linked>)>,
    pub example: String,
}

/// A content with the shape that it leads to.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Linked {
    pub text: String,
    pub shape: Option<&'static str>,
}

/// A named shape as the page shows it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Shape {
    pub name: &'static str,
    pub json: String,
}

fn linked(content: Content) -> Option<Linked> {
    let named = |schema: &'static Schema, how: &str| Linked { text: how.to_owned(), shape: Some(schema.name) };
    match content {
        Content::Nothing => None,
        Content::Json(schema) => Some(named(schema, "application/json")),
        Content::Lines(schema) => Some(named(schema, "application/x-ndjson, a line each")),
        Content::Bytes(types) => Some(Linked { text: types.join(", "), shape: None }),
    }
}

fn described(base: &str, method: &str, path: &'static str, operation: &Operation) -> Described {
    let parameters = operation.parameters.iter().map(|parameter| {
        let place = match parameter.place {
            Place::Path => "in the path",
            Place::Query => "in the query",
            Place::Header => "header",
        };
        [parameter.name.to_owned(), place.to_owned(), parameter.meaning.to_owned()]
    });
    let answers = operation.answers.iter().map(|a| (a.status, a.meaning.to_owned(), linked(a.content)));
    let problems =
        operation.all_problems().into_iter().map(|kind| (kind.status, format!("{} ({})", kind.title, kind.code), None));
    Described {
        id: operation.id,
        method: method.to_uppercase(),
        path,
        summary: operation.summary,
        description: operation.description,
        needs: operation.needs.text().replace('`', ""),
        parameters: parameters.collect(),
        body: linked(operation.body),
        answers: answers.chain(problems).collect(),
        example: example(base, method, path, operation.body),
    }
}

/// A call that can be pasted into a shell.
fn example(base: &str, method: &str, path: &str, body: Content) -> String {
    let mut call = format!("curl -X {} {base}{path} \\\n  -H \"Authorization: Bearer $KEY\"", method.to_uppercase());
    // Writing into a String can't fail.
    let _ = match body {
        Content::Nothing => Ok(()),
        Content::Json(_) => write!(call, " \\\n  -H \"Content-Type: application/json\" -d @body.json"),
        Content::Lines(_) => write!(call, " \\\n  -H \"Content-Type: application/x-ndjson\" -T lines.ndjson"),
        Content::Bytes(_) => write!(call, " \\\n  -T picture.png"),
    };
    call
}

impl ApiPage {
    /// The page of a service at that address.
    pub fn new(base: &str, backends: &[Endpoint]) -> Self {
        let sections = TAGS.iter().map(|(name, text)| {
            let here = backends.iter().filter_map(|endpoint| {
                let operation = endpoint.operation.filter(|operation| operation.tag == *name)?;
                Some(described(base, endpoint.method, endpoint.path, operation))
            });
            Section { name, anchor: name.to_lowercase().replace(' ', "-"), text, operations: here.collect() }
        });
        let shapes = schemas::ALL.iter().map(|schema| {
            let json = serde_json::to_string_pretty(&(schema.make)()).unwrap_or_default();
            Shape { name: schema.name, json }
        });
        Self {
            base: base.to_owned(),
            root: path_of(base).to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            sections: sections.collect(),
            shapes: shapes.collect(),
        }
    }
}

/// `GET /api/docs`: the page, made once.
///
/// # Errors
/// When it can't be drawn, which is a fault of ours.
pub async fn api_docs(app: web::Data<App>, contents: Contents, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let made = fixed::once(&contents.docs, || {
        let page = ApiPage::new(&app.public_url, contents.backends).render();
        let page = page.map_err(|_| Problem::new(&FAULT, "the page can't be drawn"))?;
        Ok(Fixed::new("text/html; charset=utf-8", page))
    })?;
    let headers = [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    Ok(made.answer(&request, &headers))
}
