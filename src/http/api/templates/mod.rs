//! `/api/v1/templates`

pub mod check;
pub mod collection;
pub mod document;
pub mod images;
pub mod publish;
pub mod transfer;
pub mod versions;

use crate::domain::ids::TemplateId;
use crate::http::problem::{NOT_FOUND, Problem};

fn existing(id: &str) -> Result<TemplateId, Problem> {
    TemplateId::parse(id).map_err(|_| Problem::new(&NOT_FOUND, "there is no such template"))
}
