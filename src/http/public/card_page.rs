//! `GET /c/{token}`: a card's own page, with its style sheet and pictures.

use std::sync::Arc;

use actix_web::http::header::{ACCEPT_LANGUAGE, ETAG, HeaderValue, RETRY_AFTER, USER_AGENT};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use askama::Template as _;

use super::pages::{
    CONTENT_SECURITY_POLICY, CardColours, CardPage, Device, Message, MessagePage, PageBarcode, PageField, PageState,
    asset, card_css, code_svg, qr_svg,
};
use super::texts::PageLanguage;
use crate::actions::cards::record_page_view::record_page_view;
use crate::actions::error::ActionError;
use crate::actions::passes::ensure_pass::is_offered;
use crate::actions::passes::renders::{Kind, Made, Reader};
use crate::actions::templates::published::Published;
use crate::app::App;
use crate::domain::cards::State;
use crate::domain::ids::PageToken;
use crate::domain::render::{RenderedCard, RenderedField, language_of, render};
use crate::domain::templates::picture::Look;
use crate::domain::templates::{BarcodeFormat, Colours, Group, Template};
use crate::domain::values::colour::Colour;
use crate::domain::values::locale::negotiate;
use crate::domain::wallet::WalletKind;
use crate::http::admission::of_shared_content;
use crate::http::fixed::is_known;
use crate::http::problem::{FAULT, NOT_FOUND, Problem, WALLET_OFF};
use crate::http::server::Shared;
use crate::platform::secrets::fingerprint;
use crate::store::cards::{self, Issued};
use crate::wallets::apple::package::prepare::PreparedPasses;

/// The path of the pages' own files.
const ASSETS: &str = "/assets";

/// Returns the card whose page has that token.
///
/// # Errors
/// When the database fails.
pub async fn card_of(app: &App, token: &str) -> Result<Option<Issued>, Problem> {
    if PageToken::parse(token).is_err() {
        return Ok(None);
    }
    Ok(cards::by_page(&mut app.store.read().await?, &fingerprint(token)).await?)
}

fn header<'r>(request: &'r HttpRequest, name: &actix_web::http::header::HeaderName) -> &'r str {
    request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn html(status: StatusCode, body: Bytes) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", CONTENT_SECURITY_POLICY))
        .insert_header(("cache-control", "no-store"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header(("x-robots-tag", "noindex"))
        .body(body)
}

/// Returns a page with a message to a customer instead of a card.
///
/// # Errors
/// When it can't be rendered.
pub fn message(message: Message, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let wishes = header(request, &ACCEPT_LANGUAGE);
    let languages = PageLanguage::ALL.map(|l| crate::domain::values::locale::Language::parse(l.tag()));
    let languages: Vec<_> = languages.into_iter().flatten().collect();
    let language = negotiate(wishes, &languages).and_then(|i| PageLanguage::ALL.get(i).copied());
    let base_path = request.app_data::<Shared>().map_or("", |app| app.base_path.as_str());
    let page = MessagePage {
        language: language.unwrap_or(PageLanguage::English),
        assets: format!("{base_path}{ASSETS}"),
        organization: None,
        message,
    };
    let status = match message {
        Message::LinkClosed | Message::LinkUsedUp | Message::CardErased => StatusCode::GONE,
        Message::NotFound => StatusCode::NOT_FOUND,
        Message::SlowDown => StatusCode::TOO_MANY_REQUESTS,
        Message::TryLater => StatusCode::SERVICE_UNAVAILABLE,
        Message::FormUsed => StatusCode::CONFLICT,
    };
    let page = page.render().map_err(|_| Problem::new(&FAULT, "the page could not be drawn"))?;
    Ok(html(status, page.into()))
}

/// Answers with the card's page. While the database is away, a page asks the customer to come back.
///
/// # Errors
/// When the page can't be rendered.
pub async fn page(
    app: web::Data<App>,
    token: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    match draw(app.clone(), token, request.clone()).await {
        Err(problem) if problem.status_code() == StatusCode::SERVICE_UNAVAILABLE => {
            if let Some(left_out) = app.strangers_lines.failures.next(app.now()) {
                tracing::error!(cause = problem.cause(), left_out, "a card's page can't be drawn now");
            }
            let mut answer = message(Message::TryLater, &request)?;
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            Ok(answer)
        }
        other => other,
    }
}

async fn draw(app: web::Data<App>, token: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Some(issued) = card_of(&app, &token).await? else {
        return message(Message::NotFound, &request);
    };
    if issued.card.id.is_erased() {
        return message(Message::CardErased, &request);
    }
    let (version, looks) = shown(&app, &issued).await?;
    let published = app.published(&issued.card.workspace, &issued.card.content.template, version).await?;
    let template = &published.template;
    // The template's best language for the visitor, else the card's own.
    let place = negotiate(header(&request, &ACCEPT_LANGUAGE), &template.languages)
        .unwrap_or_else(|| language_of(&issued.card, &template.languages));
    let device = Device::of_user_agent(header(&request, &USER_AGENT));
    let visit = Visit {
        place,
        device,
        here: format!("{}/c/{}", app.base_path, token.as_str()),
        assets: format!("{}{ASSETS}", app.base_path),
        page_url: app.page_url(&issued.card.workspace, &issued.card.serial, issued.card.page_generation).await?,
        ended: issued.card.ends_at().is_some_and(|end| end <= app.now()),
        apple: is_offered(&app, &issued, WalletKind::Apple),
    };
    let kind = Kind::Page(format!("{place} {device:?} {} {}", visit.ended, visit.apple));
    let drawn = issued.clone();
    let make = async {
        let work = move || visit.page(&published, &drawn, &looks.0);
        Ok(Made::Page(app.render(Reader::Customer, work).await??))
    };
    let Made::Page(page) = app.made(&issued, kind, make).await? else {
        return Err(Problem::new(&FAULT, "the page could not be drawn"));
    };
    let answer = html(StatusCode::OK, page);
    if request.method() == Method::GET {
        record_page_view(&app.into_inner(), &issued.card);
    }
    Ok(answer)
}

/// Returns the version by which a card is shown to its visitors, and its look and colours.
async fn shown(app: &App, issued: &Issued) -> Result<(i64, Arc<(Look, Colours)>), Problem> {
    let make = async {
        let card = &issued.card;
        let page_url = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
        let (published, version) = app.shown(Reader::Customer, issued, &page_url).await?;
        let drawn = issued.clone();
        let work = move || rendered(&published, &drawn, &page_url).map(|card| (card.look, card.colours));
        Ok(Made::Shown(version, Arc::new(app.render(Reader::Customer, work).await??)))
    };
    match app.made(issued, Kind::Shown, make).await? {
        Made::Shown(version, looks) => Ok((version, looks)),
        _ => Err(Problem::new(&FAULT, "the card could not be drawn")),
    }
}

/// What a page depends on besides the card.
struct Visit {
    /// The language's index among the template's.
    place: usize,
    device: Device,
    /// The page's path.
    here: String,
    /// The path of style sheets and scripts.
    assets: String,
    /// The page's full address.
    page_url: String,
    /// Whether the card's end has passed.
    ended: bool,
    /// Whether there is a pass for Apple Wallet.
    apple: bool,
}

impl Visit {
    fn page(self, published: &Published, issued: &Issued, look: &Look) -> Result<Bytes, ActionError> {
        let Self { place, device, here, assets, page_url, ended, apple } = self;
        let card = rendered(published, issued, &page_url)?;
        let tag = published.template.languages.get(place).map_or_else(|| "en".to_owned(), ToString::to_string);
        let language = PageLanguage::of_tag(&tag);
        let pictures = published.prepared_as::<PreparedPasses>()?;
        let picture = |role: &str| pictures.picture(look, &tag, role).map(|_| format!("{here}/{role}.png?lang={tag}"));
        let fields = |groups: &[Group]| -> Vec<PageField> {
            let chosen = card.fields.iter().filter(|(group, _)| groups.contains(group));
            chosen
                .flat_map(|(_, fields)| fields.iter().map(|field| page_field(&published.template, field, place)))
                .collect()
        };
        let page = CardPage {
            language,
            card_language: tag.clone(),
            assets,
            stylesheet: format!("{here}/card.css"),
            organization: card.organization.in_language(place).to_owned(),
            logo_url: picture("logo"),
            logo_text: card.logo_text.as_ref().map(|text| text.in_language(place).to_owned()),
            strip_url: picture("strip"),
            header: fields(&[Group::Header]),
            primary: fields(&[Group::Primary]),
            secondary: fields(&[Group::Secondary, Group::Auxiliary]),
            back: fields(&[Group::Back]),
            barcode: card.barcode.as_ref().and_then(|barcode| {
                Some(PageBarcode {
                    svg: code_svg(barcode.format, &barcode.value)?,
                    text: barcode.text.clone(),
                    wide: matches!(barcode.format, BarcodeFormat::Pdf417 | BarcodeFormat::Code128),
                })
            }),
            state: match card.state {
                _ if ended => PageState::Expired,
                State::Active => PageState::Active,
                State::Voided => PageState::Voided,
                State::Expired => PageState::Expired,
            },
            device,
            apple_url: apple.then(|| format!("{here}/card.pkpass")),
            google_url: None,
            page_qr_svg: (device == Device::Desktop).then(|| qr_svg(&page_url)).flatten(),
            page_url,
        };
        let page = page.render().map_err(|_| ActionError::Fault("the page could not be drawn".to_owned()))?;
        Ok(page.into())
    }
}

fn rendered<'p>(published: &'p Published, issued: &Issued, page_url: &str) -> Result<RenderedCard<'p>, ActionError> {
    render(&published.template, &issued.card, page_url)
        .map_err(|_| ActionError::Fault("a stored card can't be rendered".to_owned()))
}

fn page_field(template: &Template, field: &RenderedField<'_>, place: usize) -> PageField {
    PageField {
        label: field.label.as_ref().map_or_else(String::new, |label| label.in_language(place).to_owned()),
        value: field.written(template, place),
        link: field.link.clone(),
    }
}

/// `GET /c/{token}/card.css`: the card's colours.
///
/// # Errors
/// When the database fails.
pub async fn style_sheet(
    app: web::Data<App>,
    token: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let missing = || Problem::new(&NOT_FOUND, "there is no such card");
    let issued = card_of(&app, &token).await?.ok_or_else(missing)?;
    if issued.card.id.is_erased() {
        return message(Message::CardErased, &request);
    }
    let (_, looks) = shown(&app, &issued).await?;
    let card_colours = looks.1;
    let background = card_colours.background.unwrap_or(Colour { rgb: [0x5A, 0x5F, 0x66] });
    // A missing colour is chosen as phones do: readable on the background.
    let [r, g, b] = background.rgb.map(u32::from);
    let readable = if r * 299 + g * 587 + b * 114 > 140_000 { [0x1A; 3] } else { [0xFF; 3] };
    let foreground = card_colours.foreground.unwrap_or(Colour { rgb: readable });
    let colours = CardColours { background, foreground, label: card_colours.label.unwrap_or(foreground) };
    Ok(HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header(("cache-control", "no-store"))
        .insert_header(("x-content-type-options", "nosniff"))
        .body(card_css(&colours)))
}

/// `GET /c/{token}/{role}.png`: a picture of the card's look.
///
/// # Errors
/// When there is none.
pub async fn picture(
    app: web::Data<App>,
    path: web::Path<(String, String)>,
    query: web::Query<std::collections::HashMap<String, String>>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let missing = || Problem::new(&NOT_FOUND, "there is no such picture");
    let issued = card_of(&app, &path.0).await?.ok_or_else(missing)?;
    if issued.card.id.is_erased() {
        return message(Message::CardErased, &request);
    }
    let (version, looks) = shown(&app, &issued).await?;
    let published = app.published(&issued.card.workspace, &issued.card.content.template, version).await?;
    let language = query.get("lang").map(String::as_str).unwrap_or_default();
    let picture =
        published.prepared_as::<PreparedPasses>()?.picture(&looks.0, language, &path.1).ok_or_else(missing)?;
    let answer = HttpResponse::Ok()
        .content_type("image/png")
        .insert_header(("cache-control", "private, max-age=60"))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header(("x-robots-tag", "noindex"))
        .body(picture);
    Ok(of_shared_content(answer))
}

/// `GET /c/{token}/google`: would lead to Google Wallet. There is no Google issuer yet, so it says so.
///
/// # Errors
/// Always, except for an erased card, all of whose addresses answer that it was erased.
pub async fn google(
    app: web::Data<App>,
    token: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if card_of(&app, &token).await?.is_some_and(|issued| issued.card.id.is_erased()) {
        return message(Message::CardErased, &request);
    }
    Err(Problem::new(&WALLET_OFF, "Google Wallet is off here"))
}

/// `GET /assets/{name}`: a file that our pages use.
///
/// # Errors
/// When there is none.
pub async fn assets(name: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let asset = asset(&name).ok_or_else(|| Problem::new(&NOT_FOUND, "there is no such file"))?;
    if is_known(request.headers(), &asset.etag) {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, asset.etag)).finish());
    }
    Ok(HttpResponse::Ok()
        .content_type(asset.content_type)
        .insert_header((ETAG, asset.etag))
        .insert_header(("cache-control", "public, max-age=300"))
        .insert_header(("x-content-type-options", "nosniff"))
        .body(asset.bytes.into_owned()))
}
