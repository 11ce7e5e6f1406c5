//! Telephone numbers in the form of E.164.

/// Reads an international number as people write it (`+371 20 000 000`, `00371-20000000`, `+44 (0)20 7946 0000`) and
/// returns it in the form of E.164: `+` and 7 to 15 digits.
///
/// # Errors
/// A sentence with an example; also for a local number, whose country is unknown.
pub fn e164(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "is not a telephone number; expected for example +371 20000000";
    // A zero in brackets is what callers within the country dial instead of the country's code.
    let text = text.trim().replace("(0)", "");
    let digits = match (text.strip_prefix('+'), text.strip_prefix("00")) {
        (Some(rest), _) | (None, Some(rest)) => rest,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '(') => {
            return Err("has no country; expected for example +371 20000000");
        }
        _ => return Err(WRONG),
    };
    if digits.chars().any(|c| !c.is_ascii_digit() && !" \u{a0}-./()".contains(c)) {
        return Err(WRONG);
    }
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    if !(7..=15).contains(&digits.len()) || digits.starts_with('0') {
        return Err(WRONG);
    }
    Ok(format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_brought_to_one_form() {
        for (written, stored) in [
            ("+371 20 000 000", "+37120000000"),
            ("0037120000000", "+37120000000"),
            ("+44 (0)20 7946-0000", "+442079460000"),
            ("+1 (212) 555.0100", "+12125550100"),
        ] {
            assert_eq!(e164(written).as_deref(), Ok(stored), "{written}");
        }
        for bad in [
            "",
            "+",
            "20000000",
            "(212) 5550100",
            "+371",
            "+0371200000",
            "+371 2000000x",
            "+3712000000000000",
            "++37120000000",
            "tel:+37120000000",
        ] {
            assert!(e164(bad).is_err(), "{bad:?} was taken");
        }
    }
}
