// SPDX-License-Identifier: GPL-2.0

//! Values that are one of some words.

#![forbid(unsafe_code)]

/// Declares an enumeration with the words of its values; the first word is the one shown.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident, $syntax:literal, $why:literal {
            $($(#[$value_meta:meta])* $value:ident = $word:literal $(| $other:literal)*,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_meta])* $value,)+
        }

        impl $name {
            /// What the value looks like, for manuals.
            #[cfg(not(CONFIG_RUST))]
            pub(super) const SYNTAX: &'static str = $syntax;

            /// Reads the value.
            pub(super) fn parse(text: &[u8]) -> Result<Self, Bad> {
                $(if [$word $(, $other)*].iter().any(|word| word.as_bytes() == text) {
                    return Ok($name::$value);
                })+
                Err(Bad::invalid($why))
            }

            /// Writes the value.
            pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
                out(match self {
                    $($name::$value => $word,)+
                }
                .as_bytes());
            }
        }
    };
}
pub(super) use choice;
