//! Colours of a card.

/// An opaque sRGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// Red, green, blue.
    pub rgb: [u8; 3],
}

impl Colour {
    /// Reads `#RRGGBB`, `#RGB` or `rgb(r, g, b)`.
    ///
    /// # Errors
    /// A sentence that names the forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text.trim())
            .map(|rgb| Self { rgb })
            .ok_or_else(|| "is not a colour; expected #RRGGBB, #RGB or rgb(r,g,b) with 0 to 255".to_owned())
    }

    fn read(text: &str) -> Option<[u8; 3]> {
        if let Some(digits) = text.strip_prefix('#') {
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let channel = |range: std::ops::Range<usize>| u8::from_str_radix(digits.get(range)?, 16).ok();
            return match digits.len() {
                6 => Some([channel(0..2)?, channel(2..4)?, channel(4..6)?]),
                3 => Some([channel(0..1)? * 17, channel(1..2)? * 17, channel(2..3)? * 17]),
                _ => None,
            };
        }
        let inner = text.to_ascii_lowercase();
        let inner = inner.strip_prefix("rgb(")?.strip_suffix(')')?;
        let mut channels = inner.split(',').map(|part| part.trim().parse::<u8>().ok());
        let rgb = [channels.next()??, channels.next()??, channels.next()??];
        channels.next().is_none().then_some(rgb)
    }

    /// Returns the colour as pass.json documents it: `rgb(r, g, b)`.
    pub fn to_rgb(self) -> String {
        let [r, g, b] = self.rgb;
        format!("rgb({r}, {g}, {b})")
    }

    /// Returns the colour as style sheets write it: `#rrggbb`.
    pub fn to_hex(self) -> String {
        let [r, g, b] = self.rgb;
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read_and_nothing_else() {
        assert_eq!(Colour::parse("#1B4D3E").map(Colour::to_rgb), Ok("rgb(27, 77, 62)".to_owned()));
        assert_eq!(Colour::parse("#fff").map(Colour::to_hex), Ok("#ffffff".to_owned()));
        assert_eq!(Colour::parse("rgb( 1,2 , 3)").map(Colour::to_hex), Ok("#010203".to_owned()));
        for bad in ["", "#12345", "#ggg", "rgb(1,2)", "rgb(1,2,256)", "rgb(1,2,3,4)", "red", "#+1+2+3", "#éé"] {
            assert!(Colour::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
