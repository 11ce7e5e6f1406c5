//! The contexts of the customers' pages: what a page needs to be rendered, and nothing that it doesn't show.
//!
//! Pages work without JavaScript, send nothing elsewhere and carry no inline style or script, so that
//! [`CONTENT_SECURITY_POLICY`] can forbid them. A card's own colours therefore come as a small separate style sheet
//! ([`card_css`]). The two SVGs that a page embeds are ours (made from a bit matrix), never a customer's file.
//!
//! To add a page: a template that extends `pages/layout.html`, a context here with `samples()`, and one line in the
//! test that renders every page with every sample.

use std::fmt::Write as _;

use askama::Template;
use rust_embed::RustEmbed;
use rxing::Writer as _;

use super::texts::{Notice, PageLanguage};
use crate::domain::templates::BarcodeFormat;
use crate::domain::values::colour::Colour;
use crate::domain::values::locale::Language;

/// The content security policy of these pages: their own files, nothing inline, nothing from elsewhere.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "src/http/public/assets"]
struct Assets;

/// A file that pages load from the address in their `assets`.
#[derive(Debug, Clone)]
pub struct Asset {
    /// Its content.
    pub bytes: std::borrow::Cow<'static, [u8]>,
    /// Its media type.
    pub content_type: &'static str,
    /// A validator made from the content, with its quotes, for `ETag`.
    pub etag: String,
}

/// Returns the file of that name, e.g. `card.css`; `None` for any other.
pub fn asset(name: &str) -> Option<Asset> {
    let content_type = match name.rsplit_once('.')?.1 {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        _ => return None,
    };
    let file = Assets::get(name)?;
    let hash = hex::encode(file.metadata.sha256_hash().get(..12)?);
    Some(Asset { bytes: file.data, content_type, etag: format!("\"{hash}\"") })
}

/// The kind of device that reads the page. Guessed from the user agent, it decides what comes first, never what is
/// possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// An iPhone's browser.
    IPhone,
    /// An Android phone's browser.
    Android,
    /// Everything else, tablets too: they show the page to a phone more often than they add a card.
    Desktop,
    /// The browser inside another app, which often can't pass a file to the wallet.
    InAppBrowser,
}

impl Device {
    /// Determines the device from a `User-Agent` header. iPads call themselves Macs and count as desktops.
    pub fn of_user_agent(user_agent: &str) -> Self {
        const IN_APP: [&str; 14] = [
            "FBAN",
            "FBAV",
            "FB_IAB",
            "Instagram",
            "musical_ly",
            "BytedanceWebview",
            "TikTok",
            "MicroMessenger",
            "Line/",
            "GSA/",
            "Snapchat",
            "LinkedInApp",
            "Telegram",
            "WhatsApp/",
        ];
        let has = |mark: &str| user_agent.contains(mark);
        let iphone = has("iPhone") || has("iPod");
        let phone = iphone || (has("Android") && has("Mobile"));
        // A web view of an unknown app is recognized by what it lacks (iOS) or by `wv` (Android).
        let web_view = (iphone && has("AppleWebKit") && !has("Safari/")) || (has("Android") && has("; wv)"));
        if phone && (web_view || IN_APP.into_iter().any(has)) {
            Self::InAppBrowser
        } else if iphone {
            Self::IPhone
        } else if phone {
            Self::Android
        } else {
            Self::Desktop
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::IPhone => "iphone",
            Self::Android => "android",
            Self::Desktop => "desktop",
            Self::InAppBrowser => "in-app",
        }
    }
}

/// The state of a card as its page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// In use.
    Active,
    /// Withdrawn: the page offers no code and no wallet.
    Voided,
    /// Expired: the page offers no code and no wallet.
    Expired,
}

/// A field as written on the card, formatted and translated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageField {
    /// The field's label; may be empty.
    pub label: String,
    /// Its value as text.
    pub value: String,
    /// The address that a field of the back links to.
    pub link: Option<String>,
}

impl PageField {
    /// Returns the link if it is a web or mail address: a template must not smuggle in `javascript:`.
    fn web_link(&self) -> Option<&str> {
        let link = self.link.as_deref()?;
        ["https://", "http://", "mailto:", "tel:"].into_iter().any(|scheme| link.starts_with(scheme)).then_some(link)
    }
}

/// The code that a till scans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageBarcode {
    /// The code with its quiet zone, as an `<svg>` with a view box and without style attributes; dark without a
    /// background, as the page puts white behind it. It is written into the page unescaped.
    pub svg: String,
    /// The text below it, for a till that can't scan.
    pub text: Option<String>,
    /// Whether it is a broad code (PDF417, Code 128) rather than a square one.
    pub wide: bool,
}

/// The card's own page, `/c/{token}`.
#[derive(Debug, Clone, Template)]
#[template(path = "pages/card.html")]
pub struct CardPage {
    /// The language of the page's own texts around the card.
    pub language: PageLanguage,
    /// The tag of the language of the card's own texts.
    pub card_language: String,
    /// The address of [`asset`]s without a slash at the end, e.g. `/assets`.
    pub assets: String,
    /// The address of this card's [`card_css`].
    pub stylesheet: String,
    /// The business's name.
    pub organization: String,
    /// The logo's address; without one the organization's name is shown.
    pub logo_url: Option<String>,
    /// The text beside the logo.
    pub logo_text: Option<String>,
    /// The strip's address.
    pub strip_url: Option<String>,
    /// Header fields, at most three.
    pub header: Vec<PageField>,
    /// Primary fields, written over the strip.
    pub primary: Vec<PageField>,
    /// Secondary and auxiliary fields, one row.
    pub secondary: Vec<PageField>,
    /// The back of the card.
    pub back: Vec<PageField>,
    /// The card's code; only shown while the card is active.
    pub barcode: Option<PageBarcode>,
    /// The card's state.
    pub state: PageState,
    /// The device that reads the page.
    pub device: Device,
    /// The address of the `.pkpass`; `None` while the workspace has no Apple issuer.
    pub apple_url: Option<String>,
    /// The address of Google's save link; `None` while the workspace has no Google issuer.
    pub google_url: Option<String>,
    /// The full address of this page, for copying.
    pub page_url: String,
    /// A QR code of [`Self::page_url`] ([`qr_svg`]), shown on a desktop. It is written into the page unescaped.
    pub page_qr_svg: Option<String>,
}

impl CardPage {
    /// Returns the text direction of the card's own texts.
    fn direction(&self) -> &'static str {
        let right_to_left = Language::parse(&self.card_language).is_ok_and(|language| language.is_right_to_left());
        if right_to_left { "rtl" } else { "ltr" }
    }

    fn is_active(&self) -> bool {
        self.state == PageState::Active
    }

    fn heading(&self) -> String {
        self.named(self.language.texts().heading)
    }

    /// Returns a text with the business's name inserted.
    fn named(&self, text: &str) -> String {
        text.replace("{organization}", &self.organization)
    }

    fn lead(&self) -> &'static str {
        let t = self.language.texts();
        match self.device {
            Device::IPhone if self.apple_url.is_some() => t.lead_iphone,
            Device::Android if self.google_url.is_some() => t.lead_android,
            Device::IPhone | Device::Android => t.lead_android_without_google,
            Device::Desktop => t.lead_desktop,
            Device::InAppBrowser => t.lead_in_app,
        }
    }

    fn notice(&self) -> Option<Notice> {
        let t = self.language.texts();
        match self.state {
            PageState::Active => None,
            PageState::Voided => Some(t.voided),
            PageState::Expired => Some(t.expired),
        }
    }

    fn badge(&self) -> Option<&'static str> {
        let t = self.language.texts();
        match self.state {
            PageState::Active => None,
            PageState::Voided => Some(t.voided_badge),
            PageState::Expired => Some(t.expired_badge),
        }
    }

    fn barcode_alt(&self) -> String {
        let t = self.language.texts();
        match self.barcode.as_ref().and_then(|code| code.text.as_deref()) {
            Some(number) => t.barcode_alt.replace("{number}", number),
            None => t.barcode_alt_without_number.to_owned(),
        }
    }

    /// Whether the card's code is folded away. Beside the code that leads a phone to this page, people would scan it by
    /// mistake.
    fn folds_code(&self) -> bool {
        self.device == Device::Desktop && self.page_qr_svg.is_some()
    }

    fn copies_link(&self) -> bool {
        self.is_active() && self.device == Device::InAppBrowser
    }

    /// Returns one page for every device and state, in all languages, with much and with little on the card.
    pub fn samples() -> Vec<Self> {
        let field = |label: &str, value: &str| PageField { label: label.into(), value: value.into(), link: None };
        let full = Self {
            language: PageLanguage::English,
            card_language: "en".into(),
            assets: "/assets".into(),
            stylesheet: "/c/sample/card.css".into(),
            organization: "Kuzina".into(),
            logo_url: Some("/c/sample/logo.png".into()),
            logo_text: None,
            strip_url: Some("/c/sample/strip.png".into()),
            header: vec![field("Points", "1,240")],
            primary: vec![field("To spend", "€12.40")],
            secondary: vec![
                field("Status", "Gold"),
                field("Member", "Anna Bērziņa"),
                field("Valid until", "31/12/2027"),
            ],
            back: vec![
                field("How it works", "Show this card at the till.\nEvery euro earns 5 points."),
                PageField {
                    label: "Website".into(),
                    value: "https://kuzina.example".into(),
                    link: Some("https://kuzina.example".into()),
                },
            ],
            barcode: qr_svg("M-1001").map(|svg| PageBarcode { svg, text: Some("M-1001".into()), wide: false }),
            state: PageState::Active,
            device: Device::IPhone,
            apple_url: Some("/c/sample/card.pkpass".into()),
            google_url: None,
            page_url: "https://cards.kuzina.example/c/sample-3yzXw0kQ".into(),
            page_qr_svg: qr_svg("https://cards.kuzina.example/c/sample-3yzXw0kQ"),
        };
        let bare = Self {
            organization: "<b>Fisch & Söhne</b> Handelsgesellschaft".into(),
            logo_url: None,
            strip_url: None,
            header: Vec::new(),
            primary: vec![field("", "Wolfeschlegelsteinhausenbergerdorff von und zu Überlingen")],
            secondary: Vec::new(),
            back: vec![PageField {
                label: "Link".into(),
                value: "\"Click\"".into(),
                link: Some("javascript:alert(1)".into()),
            }],
            barcode: None,
            apple_url: None,
            page_qr_svg: None,
            ..full.clone()
        };
        let mut samples = Vec::new();
        for language in PageLanguage::ALL {
            for device in [Device::IPhone, Device::Android, Device::Desktop, Device::InAppBrowser] {
                for base in [&full, &bare] {
                    let card_language = language.tag().to_owned();
                    samples.push(Self { language, card_language, device, ..base.clone() });
                }
            }
            for state in [PageState::Voided, PageState::Expired] {
                samples.push(Self { language, state, ..full.clone() });
            }
        }
        samples.push(Self { device: Device::Android, google_url: Some("/c/sample/google".into()), ..full });
        samples
    }
}

/// The reason why a page has no card to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A link that was closed or has expired: 410.
    LinkClosed,
    /// A link whose cards have all been issued: 410.
    LinkUsedUp,
    /// A card that was erased: 410.
    CardErased,
    /// An unknown address: 404.
    NotFound,
    /// Too many requests: 429.
    SlowDown,
    /// The service, or a wallet's service, is unavailable: 503.
    TryLater,
    /// A form that was sent twice or has expired: 409.
    FormUsed,
}

impl Message {
    /// Every message.
    pub const ALL: [Self; 7] = [
        Self::LinkClosed,
        Self::LinkUsedUp,
        Self::CardErased,
        Self::NotFound,
        Self::SlowDown,
        Self::TryLater,
        Self::FormUsed,
    ];
}

/// A page with a single message.
#[derive(Debug, Clone, Template)]
#[template(path = "pages/message.html")]
pub struct MessagePage {
    /// The page's language.
    pub language: PageLanguage,
    /// The address of [`asset`]s without a slash at the end.
    pub assets: String,
    /// The business's name, if it is known and may be shown.
    pub organization: Option<String>,
    /// The message.
    pub message: Message,
}

impl MessagePage {
    fn notice(&self) -> Notice {
        let t = self.language.texts();
        match self.message {
            Message::LinkClosed => t.link_closed,
            Message::LinkUsedUp => t.link_used_up,
            Message::CardErased => t.card_erased,
            Message::NotFound => t.not_found,
            Message::SlowDown => t.slow_down,
            Message::TryLater => t.try_later,
            Message::FormUsed => t.form_used,
        }
    }

    fn title(&self) -> &'static str {
        self.notice().title
    }

    /// Returns the text; a sentence that would name an unknown business is left out.
    fn text(&self) -> String {
        let text = self.notice().text;
        match &self.organization {
            Some(organization) => text.replace("{organization}", organization),
            None => text.split_inclusive(". ").filter(|sentence| !sentence.contains("{organization}")).collect(),
        }
    }

    /// Returns every message in every language, with and without a business.
    pub fn samples() -> Vec<Self> {
        let mut samples = Vec::new();
        for language in PageLanguage::ALL {
            for message in Message::ALL {
                for organization in [Some("Kuzina".to_owned()), None] {
                    samples.push(Self { language, assets: "/assets".into(), organization, message });
                }
            }
        }
        samples
    }
}

/// The colours of one card's look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardColours {
    /// The background.
    pub background: Colour,
    /// The colour of values.
    pub foreground: Colour,
    /// The colour of labels.
    pub label: Colour,
}

/// Returns the style sheet with a card's colours. The content type is that of `card.css`.
pub fn card_css(colours: &CardColours) -> String {
    format!(
        ".pass{{--card:{};--card-text:{};--card-label:{}}}\n",
        colours.background.to_hex(),
        colours.foreground.to_hex(),
        colours.label.to_hex()
    )
}

/// Returns a QR code as an `<svg>`; see [`code_svg`].
pub fn qr_svg(text: &str) -> Option<String> {
    code_svg(BarcodeFormat::Qr, text)
}

/// Returns a code as an `<svg>`, one unit a module, with its quiet zone. `None` when the symbology can't hold the text.
pub fn code_svg(format: BarcodeFormat, text: &str) -> Option<String> {
    use rxing::BarcodeFormat as Symbology;
    // A linear code is one module high, so it is stretched to a band.
    let (symbology, width, height) = match format {
        BarcodeFormat::Qr => (Symbology::QR_CODE, 0, 0),
        BarcodeFormat::Aztec => (Symbology::AZTEC, 0, 0),
        BarcodeFormat::Pdf417 => (Symbology::PDF_417, 0, 0),
        BarcodeFormat::Code128 => (Symbology::CODE_128, 0, 40),
    };
    let matrix = rxing::MultiFormatWriter.encode(text, &symbology, width, height).ok()?;
    let (width, height) = (matrix.getWidth(), matrix.getHeight());
    let mut path = String::new();
    for y in 0..height {
        let mut x = 0;
        while x < width {
            let run = (x..width).take_while(|&x| matrix.get(x, y)).count();
            if run > 0 {
                // Writing to a string can't fail.
                let _ = write!(path, "M{x} {y}h{run}v1h-{run}z");
            }
            x += u32::try_from(run).ok()? + 1;
        }
    }
    Some(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" shape-rendering="crispEdges"><path d="{path}"/></svg>"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> Vec<(String, String)> {
        let cards = CardPage::samples().into_iter().enumerate().map(|(i, page)| {
            let name = format!("card-{i:02}-{}-{:?}-{}", page.language.tag(), page.state, page.device.class());
            (name, page.render().expect("drawn"))
        });
        let messages = MessagePage::samples().into_iter().enumerate().map(|(i, page)| {
            (format!("message-{i:02}-{}-{:?}", page.language.tag(), page.message), page.render().expect("drawn"))
        });
        cards.chain(messages).collect()
    }

    #[test]
    fn every_page_is_drawn_with_every_sample_and_obeys_its_policy() {
        let assets: usize = ["card.css", "card.js"].iter().map(|name| asset(name).expect("there").bytes.len()).sum();
        for (name, html) in drawn() {
            for never in ["<style", " style=", "javascript:", " onclick", "{organization}", "{number}", "<b>Fisch"] {
                assert!(!html.contains(never), "{name} has {never}");
            }
            assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count(), "{name}");
            assert_eq!(html.matches("<h1").count(), 1, "{name}");
            assert_eq!(html.matches("<main").count(), 1, "{name}");
            assert_eq!(html.matches("<img").count(), html.matches(" alt=\"").count(), "{name}: an image without alt");
            assert!(html.len() + assets < 150_000, "{name} is too large");
            // Written out for viewing in a browser.
            if let Ok(directory) = std::env::var("PASSLOOM_SAMPLE_PAGES") {
                std::fs::write(format!("{directory}/{name}.html"), html).expect("written");
            }
        }
    }

    #[test]
    fn a_card_that_is_not_in_use_shows_no_code_and_leads_to_no_wallet() {
        for page in CardPage::samples() {
            let html = page.render().expect("drawn");
            assert_eq!(html.contains("pass-code"), page.is_active() && page.barcode.is_some());
            assert_eq!(html.contains("card.pkpass"), page.is_active() && page.apple_url.is_some());
        }
    }

    #[test]
    fn a_message_without_a_business_is_still_whole_sentences() {
        for page in MessagePage::samples() {
            let text = page.text();
            assert!(text.trim_end().ends_with('.'), "{:?}: {text:?}", page.message);
        }
    }

    #[test]
    fn a_page_loads_only_what_is_there() {
        assert_eq!(asset("card.css").expect("there").content_type, "text/css; charset=utf-8");
        assert_eq!(asset("card.js").expect("there").content_type, "text/javascript; charset=utf-8");
        for strange in ["", "card", "../pages.rs", "nothing.css"] {
            assert!(asset(strange).is_none(), "{strange}");
        }
    }

    #[test]
    fn devices_are_told_apart() {
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
        let instagram = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 340.0";
        let web_view = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148";
        let android = "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Mobile Safari/537.36";
        let facebook = "Mozilla/5.0 (Linux; Android 15; Pixel 9; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0 Mobile Safari/537.36 [FB_IAB/FB4A]";
        let mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15";
        for (agent, device) in [
            (safari, Device::IPhone),
            (instagram, Device::InAppBrowser),
            (web_view, Device::InAppBrowser),
            (android, Device::Android),
            (facebook, Device::InAppBrowser),
            (mac, Device::Desktop),
            ("curl/8", Device::Desktop),
            ("", Device::Desktop),
        ] {
            assert_eq!(Device::of_user_agent(agent), device, "{agent}");
        }
    }
}
