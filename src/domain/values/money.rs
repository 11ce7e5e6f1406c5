//! Exact decimal numbers and amounts of money.

/// A decimal number of at most 15 digits, exact. Equality ignores trailing zeros: 1.50 equals 1.5.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    units: i64,
    scale: u8,
}

impl Decimal {
    /// Reads an optional sign, digits, and optionally a point and digits. No exponent, no grouping.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !numeric(whole) || !numeric(fraction) || digits.ends_with('.') {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let all = format!("{whole}{fraction}");
        if all.trim_start_matches('0').len() > 15 || fraction.len() > 15 {
            return None;
        }
        let units: i64 = all.parse().ok()?;
        Some(Self { units: sign * units, scale: u8::try_from(fraction.len()).ok()? })
    }

    fn normal(self) -> (i64, u8) {
        let (mut units, mut scale) = (self.units, self.scale);
        while scale > 0 && units % 10 == 0 {
            units /= 10;
            scale -= 1;
        }
        (units, scale)
    }

    /// Returns the number of digits after the point, not counting trailing zeros.
    pub fn decimals(self) -> u8 {
        self.normal().1
    }

    /// Returns the number with at least `decimals` digits after the point; further ones are kept.
    pub fn to_fixed(self, decimals: u8) -> String {
        let (units, scale) = self.normal();
        let digits = format!("{:0width$}", units.unsigned_abs(), width = usize::from(scale) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
        let sign = if units < 0 { "-" } else { "" };
        let zeros = "0".repeat(usize::from(decimals.saturating_sub(scale)));
        match fraction.len() + zeros.len() {
            0 => format!("{sign}{whole}"),
            _ => format!("{sign}{whole}.{fraction}{zeros}"),
        }
    }

    /// Returns the nearest floating-point number; exact to 15 digits, so it prints as the same decimal.
    pub fn to_f64(self) -> f64 {
        self.to_fixed(0).parse().unwrap_or(0.0)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.normal() == other.normal()
    }
}

impl Eq for Decimal {}

/// A currency code of ISO 4217.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// Currencies in use, and those that went out of use in recent years (ISO 4217, lists one and three, read 2026-11).
/// Codes for metals, bonds and tests are left out, because no card has a balance in them.
const CODES: &str = "\
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF \
    CHE CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD \
    GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP \
    LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN \
    PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS \
    TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XDR XOF XPF YER ZAR \
    ZMW ZWG ZWL";

/// Currencies whose smallest unit is not a hundredth (ISO 4217, list one, read 2026-11).
const OTHER_DECIMALS: [(&str, u8); 26] = [
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
    ("UYW", 4),
];

impl Currency {
    /// Reads a known code of three upper-case letters.
    ///
    /// # Errors
    /// A sentence with an example.
    pub fn parse(text: &str) -> Result<Self, String> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if CODES.split_ascii_whitespace().any(|known| known == text) => Ok(Self(code)),
            _ => Err("is not a currency code; expected three capital letters of ISO 4217, for example EUR".to_owned()),
        }
    }

    /// Returns the code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns how many digits after the point an amount may have.
    pub fn decimals(&self) -> u8 {
        OTHER_DECIMALS.iter().find(|(code, _)| *code == self.as_str()).map_or(2, |(_, decimals)| *decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact_and_compare_by_value() {
        let d = |t| Decimal::parse(t).expect("valid");
        assert_eq!(d("12.50"), d("12.5"));
        assert_eq!(d("-0.05").to_fixed(2), "-0.05");
        assert_eq!(d("7").to_fixed(2), "7.00");
        assert_eq!(d("0.10").to_f64().to_string(), "0.1");
        for bad in ["", "-", "1.", ".5", "1e3", "1,5", "+1", "1234567890123456", "١"] {
            assert!(Decimal::parse(bad).is_none(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_currency_is_one_of_iso_4217() {
        assert!(OTHER_DECIMALS.iter().all(|(code, _)| Currency::parse(code).is_ok()));
        for bad in ["", "eur", "EURO", "XQQ", "XXX", "E R", "AED AFN"] {
            assert!(Currency::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_written_decimal_is_read_back_as_itself(units in -999_999_999_999_999_i64..=999_999_999_999_999, scale in 0u8..6) {
            let decimal = Decimal { units, scale };
            prop_assert_eq!(Decimal::parse(&decimal.to_fixed(0)), Some(decimal));
            prop_assert_eq!(Decimal::parse(&decimal.to_fixed(4)), Some(decimal));
        }
    }
}
