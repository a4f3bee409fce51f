//! Enums whose variants are words: in settings, on the command line, in a catalog.

/// A word that is none of those known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is no {what}: there are {known}")]
pub struct UnknownWord {
    /// As it was written.
    pub word: String,
    /// What it should have been.
    pub what: &'static str,
    /// What there is.
    pub known: String,
}

/// Derives the words of an enum from one table: `ALL`, `word`, [`Display`](std::fmt::Display) and [`FromStr`](std::str::FromStr),
/// whose error is [`UnknownWord`].
#[macro_export]
macro_rules! words {
    ($type:ident, $what:literal, $($variant:ident = $word:literal),+) => {
        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::word::UnknownWord;

            fn from_str(word: &str) -> Result<$type, $crate::word::UnknownWord> {
                let known = || $type::ALL.iter().map(|known| known.word()).collect::<Vec<_>>().join(", ");
                let found = $type::ALL.iter().copied().find(|known| known.word() == word);
                found.ok_or_else(|| $crate::word::UnknownWord { word: word.to_owned(), what: $what, known: known() })
            }
        }
    };
}
