//! `GET` and `HEAD /v1/passes/{pass type}/{serial}`

use actix_web::http::Method;
use actix_web::http::header::{IF_MODIFIED_SINCE, LAST_MODIFIED};
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Failure, unauthorized};
use crate::actions::passes::fetch_pass::{Fetched, Purpose, fetch_pass};
use crate::app::App;
use crate::domain::ids::{PassTypeId, SerialNumber};
use crate::domain::time::Timestamp;
use crate::http::auth::authorization;
use crate::http::public::download::pkpass;

/// Returns the newest pass: 200 with `Last-Modified`, 304, or 401 for a wrong token and an unknown serial alike.
///
/// # Errors
/// When the database or signing fails.
pub async fn latest(
    app: web::Data<App>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let (Ok(pass_type), Ok(serial)) = (PassTypeId::parse(&path.0), SerialNumber::parse(&path.1)) else {
        return Ok(unauthorized());
    };
    let Some((_, token)) = authorization(&request) else { return Ok(unauthorized()) };
    // Our dates may run ahead of the clock, so a date in the future is accepted.
    let since = request.headers().get(IF_MODIFIED_SINCE).and_then(|v| Timestamp::parse_http_date(v.to_str().ok()?));
    let purpose = if request.method() == Method::HEAD { Purpose::Look } else { Purpose::Hold };
    Ok(match fetch_pass(&app, &pass_type, &serial, token, since, purpose).await? {
        Fetched::Pass(pass, modified) => pkpass(&pass, modified),
        Fetched::NotModified(modified) => {
            HttpResponse::NotModified().insert_header((LAST_MODIFIED, modified.to_http_date())).finish()
        }
        Fetched::Unauthorized => unauthorized(),
    })
}
