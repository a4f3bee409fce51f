//! What is wrong with a settings file: where, why, and which word was meant. Never a value's text, which may hold a password.

/// What is wrong with a file's text.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where and why, without a value's text.
    pub why: String,
    /// The known word that is nearest to an unknown one.
    pub suggestion: Option<String>,
}

impl Mistake {
    /// From the parser's error, without the line it would quote: a connection string may hold a password.
    pub fn of(text: &str, error: &toml::de::Error) -> Mistake {
        let message = without_value(error.message());
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[start..].chars().count() + 1);
        let row = text[start..].lines().next().unwrap_or_default();
        let key = row.split_once('=').map_or("", |(key, _)| key.trim());
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
        let key = if !key.is_empty() && key.chars().all(plain) { format!(", {key}") } else { String::new() };
        Mistake {
            why: format!("line {line}, column {column}{key}: {message}"),
            suggestion: suggestion(&message),
        }
    }
}

/// `invalid type: string "…", expected …` without the string, and in words of people.
fn without_value(message: &str) -> String {
    let message = &message.replace("expected usize", "expected a whole number");
    match (message.find("string \""), message.rfind("\", expected")) {
        (Some(from), Some(to)) if from < to => format!("{}a string{}", &message[..from], &message[to + 1..]),
        _ => message.clone(),
    }
}

/// Of ``unknown field `x`, expected `a` or `b` `` the expected word that `x` was meant to be.
fn suggestion(message: &str) -> Option<String> {
    let (unknown, expected) = message.strip_prefix("unknown ")?.split_once(", expected ")?;
    let unknown = unknown.split('`').nth(1)?;
    let near = expected.split('`').skip(1).step_by(2).map(|word| (distance(unknown, word), word)).min()?;
    (near.0 <= near.1.len() / 3 + 1).then(|| near.1.to_owned())
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (above, letter) in from.iter().enumerate() {
        let mut row = vec![above + 1];
        for (left, other) in to.iter().enumerate() {
            let mut least = rows[above][left] + usize::from(letter != other);
            least = least.min(rows[above][left + 1] + 1).min(row[left] + 1);
            if above > 0 && left > 0 && from[above - 1] == *other && *letter == to[left - 1] {
                least = least.min(rows[above - 1][left - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}
