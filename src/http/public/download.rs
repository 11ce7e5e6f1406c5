//! A pass as a download: from the card's address, by API, and for a phone that updates.

use actix_web::HttpResponse;
use actix_web::http::header::LAST_MODIFIED;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, web};
use futures_util::stream;

use super::card_page::{card_of, message};
use super::pages::Message;
use crate::actions::passes::ensure_pass::ensure_pass;
use crate::actions::passes::fetch_pass::shared_pass;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::http::admission::OwnBytes;
use crate::http::problem::Problem;
use crate::wallets::apple::package::pass::SignedPass;

/// Returns the answer with a pass: exact length, never stored, never content-sniffed, never indexed (Apple,
/// "Distributing and updating a pass", read 2026-11). The pictures are sent from where they are in memory, without a
/// copy.
pub fn pkpass(pass: &SignedPass, modified: Timestamp) -> HttpResponse {
    let archive = pass.archive();
    let parts = [archive.shared.clone(), archive.own.clone()];
    let body = stream::iter(parts.map(Ok::<Bytes, std::convert::Infallible>));
    let mut response = HttpResponse::Ok()
        .content_type("application/vnd.apple.pkpass")
        .insert_header((LAST_MODIFIED, modified.to_http_date()))
        .insert_header(("content-disposition", "inline; filename=\"card.pkpass\""))
        .insert_header(("cache-control", "no-store"))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header(("x-robots-tag", "noindex"))
        .no_chunking(archive.len() as u64)
        .streaming(body);
    response.extensions_mut().insert(OwnBytes(archive.own.len()));
    response
}

/// `GET /c/{token}/card.pkpass`: can be repeated and needs nothing but the address.
///
/// # Errors
/// When the database or signing fails.
pub async fn card_pkpass(
    app: web::Data<App>,
    token: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let Some(mut issued) = card_of(&app, &token).await? else {
        return message(Message::NotFound, &request);
    };
    if issued.card.id.is_erased() {
        return message(Message::CardErased, &request);
    }
    ensure_pass(&app, &mut issued, WalletKind::Apple).await?;
    let pass = shared_pass(&app, &issued).await?;
    Ok(pkpass(&pass, Timestamp::from_seconds(issued.modified())))
}
