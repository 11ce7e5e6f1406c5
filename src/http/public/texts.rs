//! The texts of our own pages, in every language we support.
//!
//! A language is one value of [`Texts`], so a missing text doesn't compile. `{organization}` stands for the business's
//! name; everything on the card itself (labels, values) comes from its template, not from here.

/// A language of our own pages. Templates may have others; their pages are in English around the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageLanguage {
    /// English, the fallback.
    #[default]
    English,
    /// Latvian.
    Latvian,
    /// Russian.
    Russian,
}

impl PageLanguage {
    /// Every language.
    pub const ALL: [Self; 3] = [Self::English, Self::Latvian, Self::Russian];

    /// Returns the language of a tag such as `lv` or `ru-LV`; English for an unsupported one.
    pub fn of_tag(tag: &str) -> Self {
        match tag.split('-').next().unwrap_or(tag).to_ascii_lowercase().as_str() {
            "lv" => Self::Latvian,
            "ru" => Self::Russian,
            _ => Self::English,
        }
    }

    /// Returns the tag for `<html lang>`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Latvian => "lv",
            Self::Russian => "ru",
        }
    }

    /// Returns the language's texts.
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Latvian => &LATVIAN,
            Self::Russian => &RUSSIAN,
        }
    }
}

/// A title with a sentence or two below it.
#[derive(Debug, Clone, Copy)]
pub struct Notice {
    /// The heading.
    pub title: &'static str,
    /// The meaning and what to do.
    pub text: &'static str,
}

/// Every text of the customers' pages.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // the name says where it is shown, the English text what it says
pub struct Texts {
    pub heading: &'static str,
    pub lead_iphone: &'static str,
    pub lead_android: &'static str,
    pub lead_android_without_google: &'static str,
    pub lead_desktop: &'static str,
    pub lead_in_app: &'static str,
    pub add_to_apple: &'static str,
    pub add_to_google: &'static str,
    pub apple_file: &'static str,
    pub apple_file_hint: &'static str,
    pub apple_on_mac: &'static str,
    pub scan_title: &'static str,
    pub scan_text: &'static str,
    pub scan_alt: &'static str,
    pub barcode_alt: &'static str,
    pub barcode_alt_without_number: &'static str,
    pub show_code: &'static str,
    pub in_app_title: &'static str,
    pub in_app_steps: [&'static str; 3],
    pub in_app_anyway: &'static str,
    pub address: &'static str,
    pub copy: &'static str,
    pub copied: &'static str,
    pub details: &'static str,
    pub card_region: &'static str,
    pub voided: Notice,
    pub voided_badge: &'static str,
    pub expired: Notice,
    pub expired_badge: &'static str,
    pub link_closed: Notice,
    pub link_used_up: Notice,
    pub card_erased: Notice,
    pub not_found: Notice,
    pub slow_down: Notice,
    pub try_later: Notice,
    pub form_used: Notice,
}

static ENGLISH: Texts = Texts {
    heading: "Your {organization} card",
    lead_iphone: "Keep it in your phone’s wallet: always at hand, always up to date.",
    lead_android: "Keep it in your phone’s wallet: always at hand, always up to date.",
    lead_android_without_google: "Show this page when you pay. Save it to your home screen to have it at hand.",
    lead_desktop: "It belongs on your phone, where it is always at hand and up to date.",
    lead_in_app: "One more step: open this page in your browser.",
    add_to_apple: "Add to Apple Wallet",
    add_to_google: "Add to Google Wallet",
    apple_file: "Download the card as a .pkpass file",
    apple_file_hint: "For wallet apps that read Apple’s format.",
    apple_on_mac: "On a Mac or an iPad: add to Apple Wallet",
    scan_title: "Scan with your phone",
    scan_text: "Point your phone’s camera at the code. The card opens there, and one tap adds it to your wallet.",
    scan_alt: "QR code that opens this page on your phone",
    barcode_alt: "Code of your card, number {number}",
    barcode_alt_without_number: "Code of your card",
    show_code: "Show the card’s code",
    in_app_title: "Open in your browser",
    in_app_steps: [
        "Tap ••• or the share icon of this app.",
        "Choose “Open in Safari” or “Open in browser”.",
        "Add the card to your wallet there.",
    ],
    in_app_anyway: "Or try it right here",
    address: "Address of your card",
    copy: "Copy link",
    copied: "Copied",
    details: "More about this card",
    card_region: "Your card",
    voided: Notice {
        title: "This card is no longer in use",
        text: "It can’t be shown at the till any more. If you think that is a mistake, ask {organization}: they can give you a new one.",
    },
    voided_badge: "Not in use",
    expired: Notice {
        title: "This card has expired",
        text: "Thank you for having been with us. Ask {organization} how to get a new card.",
    },
    expired_badge: "Expired",
    link_closed: Notice {
        title: "This offer has ended",
        text: "New cards are no longer given out here. Cards that you already have keep working.",
    },
    link_used_up: Notice {
        title: "All cards are gone",
        text: "Every card of this offer has found its owner. Cards that you already have keep working.",
    },
    card_erased: Notice {
        title: "This card has been deleted",
        text: "Its data has been erased for good. Ask {organization} if you would like a new card.",
    },
    not_found: Notice { title: "There is nothing here", text: "Please check the address, or scan the code once more." },
    slow_down: Notice {
        title: "A little too fast",
        text: "There were many requests from your network. Please wait a minute and try again.",
    },
    try_later: Notice {
        title: "That didn’t work just now",
        text: "It is not your fault. Please try again in a moment: your card is safe.",
    },
    form_used: Notice {
        title: "This form has already been sent",
        text: "If you don’t have your card yet, scan the code once more and start again.",
    },
};

static LATVIAN: Texts = Texts {
    heading: "Jūsu {organization} karte",
    lead_iphone: "Glabājiet to tālruņa makā – vienmēr pa rokai un ar jaunākajiem datiem.",
    lead_android: "Glabājiet to tālruņa makā – vienmēr pa rokai un ar jaunākajiem datiem.",
    lead_android_without_google: "Uzrādiet šo lapu, kad maksājat. Pievienojiet to sākuma ekrānam, lai tā būtu pa rokai.",
    lead_desktop: "Tās vieta ir jūsu tālrunī – vienmēr pa rokai un ar jaunākajiem datiem.",
    lead_in_app: "Vēl viens solis: atveriet šo lapu pārlūkprogrammā.",
    add_to_apple: "Pievienot Apple Wallet",
    add_to_google: "Pievienot Google Wallet",
    apple_file: "Lejupielādēt karti kā .pkpass failu",
    apple_file_hint: "Maka lietotnēm, kas nolasa Apple formātu.",
    apple_on_mac: "Mac datorā vai iPad: pievienot Apple Wallet",
    scan_title: "Noskenējiet ar tālruni",
    scan_text: "Pavērsiet tālruņa kameru pret kodu. Karte atvērsies tālrunī, un ar vienu pieskārienu to varēs pievienot makam.",
    scan_alt: "Kvadrātkods, kas atver šo lapu tālrunī",
    barcode_alt: "Jūsu kartes kods, numurs {number}",
    barcode_alt_without_number: "Jūsu kartes kods",
    show_code: "Parādīt kartes kodu",
    in_app_title: "Atveriet pārlūkprogrammā",
    in_app_steps: [
        "Pieskarieties ••• vai šīs lietotnes kopīgošanas ikonai.",
        "Izvēlieties „Atvērt ar Safari” vai „Atvērt pārlūkprogrammā”.",
        "Tur pievienojiet karti savam makam.",
    ],
    in_app_anyway: "Vai mēģiniet tepat",
    address: "Jūsu kartes adrese",
    copy: "Kopēt saiti",
    copied: "Nokopēts",
    details: "Vairāk par šo karti",
    card_region: "Jūsu karte",
    voided: Notice {
        title: "Šī karte vairs netiek izmantota",
        text: "To vairs nevar uzrādīt kasē. Ja tā ir kļūda, vērsieties pie {organization} – jums izsniegs jaunu karti.",
    },
    voided_badge: "Nav spēkā",
    expired: Notice {
        title: "Kartes derīguma termiņš ir beidzies",
        text: "Paldies, ka bijāt kopā ar mums. Lai saņemtu jaunu karti, vērsieties pie {organization}.",
    },
    expired_badge: "Beidzies termiņš",
    link_closed: Notice {
        title: "Šis piedāvājums ir beidzies",
        text: "Jaunas kartes šeit vairs netiek izsniegtas. Jūsu jau saņemtās kartes turpina darboties.",
    },
    link_used_up: Notice {
        title: "Visas kartes ir izsniegtas",
        text: "Šī piedāvājuma kartes ir beigušās. Jūsu jau saņemtās kartes turpina darboties.",
    },
    card_erased: Notice {
        title: "Šī karte ir dzēsta",
        text: "Tās dati ir neatgriezeniski izdzēsti. Ja vēlaties jaunu karti, vērsieties pie {organization}.",
    },
    not_found: Notice { title: "Šeit nekā nav", text: "Lūdzu, pārbaudiet adresi vai noskenējiet kodu vēlreiz." },
    slow_down: Notice {
        title: "Mazliet par ātru",
        text: "No jūsu tīkla saņemts daudz pieprasījumu. Lūdzu, uzgaidiet minūti un mēģiniet vēlreiz.",
    },
    try_later: Notice {
        title: "Šobrīd neizdevās",
        text: "Tā nav jūsu vaina. Lūdzu, pēc brīža mēģiniet vēlreiz: jūsu karte ir drošībā.",
    },
    form_used: Notice {
        title: "Šī veidlapa jau ir nosūtīta",
        text: "Ja kartes jums vēl nav, noskenējiet kodu vēlreiz un sāciet no jauna.",
    },
};

static RUSSIAN: Texts = Texts {
    heading: "Ваша карта {organization}",
    lead_iphone: "Храните её в кошельке телефона: всегда под рукой и с актуальными данными.",
    lead_android: "Храните её в кошельке телефона: всегда под рукой и с актуальными данными.",
    lead_android_without_google: "Показывайте эту страницу при оплате. Добавьте её на главный экран, чтобы она была под рукой.",
    lead_desktop: "Ей место в телефоне: всегда под рукой и с актуальными данными.",
    lead_in_app: "Ещё один шаг: откройте эту страницу в браузере.",
    add_to_apple: "Добавить в Apple Wallet",
    add_to_google: "Добавить в Google Wallet",
    apple_file: "Скачать карту как файл .pkpass",
    apple_file_hint: "Для приложений-кошельков, которые читают формат Apple.",
    apple_on_mac: "На Mac или iPad: добавить в Apple Wallet",
    scan_title: "Отсканируйте телефоном",
    scan_text: "Наведите камеру телефона на код. Карта откроется в телефоне, и её можно будет добавить в кошелёк одним касанием.",
    scan_alt: "QR-код, который откроет эту страницу в телефоне",
    barcode_alt: "Код вашей карты, номер {number}",
    barcode_alt_without_number: "Код вашей карты",
    show_code: "Показать код карты",
    in_app_title: "Откройте в браузере",
    in_app_steps: [
        "Нажмите ••• или значок «Поделиться» в этом приложении.",
        "Выберите «Открыть в Safari» или «Открыть в браузере».",
        "Там добавьте карту в кошелёк.",
    ],
    in_app_anyway: "Или попробуйте здесь",
    address: "Адрес вашей карты",
    copy: "Скопировать ссылку",
    copied: "Скопировано",
    details: "Подробнее о карте",
    card_region: "Ваша карта",
    voided: Notice {
        title: "Эта карта больше не используется",
        text: "Её больше нельзя показать на кассе. Если это ошибка, обратитесь в {organization}: вам выдадут новую карту.",
    },
    voided_badge: "Недействительна",
    expired: Notice {
        title: "Срок действия карты истёк",
        text: "Спасибо, что были с нами. О новой карте спросите в {organization}.",
    },
    expired_badge: "Срок истёк",
    link_closed: Notice {
        title: "Это предложение закончилось",
        text: "Новые карты здесь больше не выдаются. Карты, которые у вас уже есть, продолжают работать.",
    },
    link_used_up: Notice {
        title: "Все карты разобраны",
        text: "Карты по этому предложению закончились. Карты, которые у вас уже есть, продолжают работать.",
    },
    card_erased: Notice {
        title: "Эта карта удалена",
        text: "Её данные стёрты навсегда. Если вам нужна новая карта, спросите в {organization}.",
    },
    not_found: Notice {
        title: "Здесь ничего нет", text: "Проверьте адрес или отсканируйте код ещё раз."
    },
    slow_down: Notice {
        title: "Слишком быстро",
        text: "Из вашей сети пришло много запросов. Подождите минуту и попробуйте снова.",
    },
    try_later: Notice {
        title: "Сейчас не получилось",
        text: "Это не ваша вина. Попробуйте ещё раз чуть позже: с вашей картой всё в порядке.",
    },
    form_used: Notice {
        title: "Эта форма уже отправлена",
        text: "Если карты у вас ещё нет, отсканируйте код ещё раз и начните сначала.",
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_with_a_region_finds_its_language_and_a_strange_one_english() {
        assert_eq!(PageLanguage::of_tag("ru-LV"), PageLanguage::Russian);
        assert_eq!(PageLanguage::of_tag("LV"), PageLanguage::Latvian);
        assert_eq!(PageLanguage::of_tag("de"), PageLanguage::English);
        assert_eq!(PageLanguage::of_tag(""), PageLanguage::English);
    }

    #[test]
    fn no_text_is_left_in_english() {
        let english = format!("{ENGLISH:?}");
        for language in [PageLanguage::Latvian, PageLanguage::Russian] {
            let other = format!("{:?}", language.texts());
            // Debug prints `name: "text"` in the order of the struct, so the same text is at the same index.
            for (a, b) in english.split("\", ").zip(other.split("\", ")) {
                assert_ne!(a, b, "{language:?}");
            }
        }
    }
}
