//! Names of a design's pictures: `strip`, or `strip@6` for one of several pictures prepared for a role.

use std::fmt;

/// The roles that a template may have pictures for: Apple's, and those that other wallets show.
pub const ROLES: [&str; 14] = [
    "icon",
    "logo",
    "strip",
    "thumbnail",
    "background",
    "footer",
    "primaryLogo",
    "secondaryLogo",
    "artwork",
    "venueMap",
    "personalizationLogo",
    "programLogo",
    "heroImage",
    "wideLogo",
];

/// A picture's role and, if several are prepared for the role, which of them it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PictureName {
    /// One of [`ROLES`].
    pub role: &'static str,
    /// Its own name among the role's pictures.
    pub variant: Option<String>,
}

impl PictureName {
    /// Reads `role` or `role@variant`.
    ///
    /// # Errors
    /// A sentence with an example.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (role, variant) = text.split_once('@').map_or((text, None), |(role, variant)| (role, Some(variant)));
        let role = ROLES.into_iter().find(|known| *known == role);
        match (role, variant) {
            (Some(role), None) => Ok(Self { role, variant: None }),
            (Some(_), Some("1x" | "2x" | "3x")) => {
                Err("names a scale; every scale is made here: expected the role alone")
            }
            (Some(role), Some(variant)) if is_variant(variant) => Ok(Self { role, variant: Some(variant.to_owned()) }),
            _ => Err("is not the name of a picture; expected for example strip@6: a role, @ and a name of the picture"),
        }
    }
}

/// Whether a text can name one of a role's pictures: 1 to 64 of `A-Za-z0-9_-`.
pub fn is_variant(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

impl fmt::Display for PictureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variant {
            Some(variant) => write!(f, "{}@{variant}", self.role),
            None => f.write_str(self.role),
        }
    }
}

/// What decides which of a design's pictures a card shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Look {
    /// The card's tier.
    pub tier: Option<String>,
    /// The pictures that its values and the template's texts chose, at most one for a role.
    pub chosen: Vec<PictureName>,
}

impl Look {
    /// Returns the variant chosen for a role.
    pub fn variant(&self, role: &str) -> Option<&str> {
        self.chosen.iter().find(|name| name.role == role)?.variant.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_role_and_perhaps_which_of_its_pictures() {
        assert_eq!(PictureName::parse("strip@6").map(|n| n.to_string()), Ok("strip@6".to_owned()));
        assert_eq!(PictureName::parse("icon").map(|n| n.variant), Ok(None));
        for bad in ["", "banner", "strip@", "strip@a b", "strip@6@7", "@6", "strip@../x", "Strip"] {
            assert!(PictureName::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
