//! Names and strings as SQL writes them.
//!
//! For statements that take no `$n` values (`ALTER SYSTEM`, `GRANT`) and for statements shown to people.

/// A role, database or setting as SQL writes it.
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as SQL writes it, under `standard_conforming_strings`, which every session here has.
pub fn quoted_string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_are_doubled() {
        assert_eq!(quoted_name("o\"dd 'ö'"), "\"o\"\"dd 'ö'\"");
        assert_eq!(quoted_string("it's \\ \"ö\""), "'it''s \\ \"ö\"'");
    }
}
