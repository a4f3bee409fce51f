//! Documents as YAML: maps in the order of their keys, and nothing plain that a reader could take for something else.

use std::fmt::Write;

use serde_json::Value;

/// One document.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    put(&mut text, value, 0);
    text
}

/// Writes a value that begins on a line of its own, each line with so many spaces before it.
fn put(text: &mut String, value: &Value, depth: usize) {
    let margin = " ".repeat(depth);
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                // Writing into a string does not end in an error.
                let _ = write!(text, "{margin}{}:", scalar(key));
                put_behind(text, value, depth + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut of_item = String::new();
                put(&mut of_item, item, depth + 2);
                // The item begins where its mark stands.
                let _ = write!(text, "{margin}- {}", &of_item[depth + 2..]);
            }
        }
        _ => drop(writeln!(text, "{margin}{}", leaf(value))),
    }
}

/// Writes a value behind its key.
fn put_behind(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('\n');
            put(text, value, depth);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            put(text, value, depth);
        }
        Value::String(long) if is_block(long) => {
            text.push_str(" |\n");
            for line in long.lines() {
                let margin = if line.is_empty() { String::new() } else { " ".repeat(depth) };
                let _ = writeln!(text, "{margin}{line}");
            }
        }
        _ => drop(writeln!(text, " {}", leaf(value))),
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Whether a block holds it as it is: it ends with its last line, begins with a letter, and has nothing that is not shown.
fn is_block(text: &str) -> bool {
    let is_shown = |letter: char| letter == '\n' || letter == '\t' || (letter >= ' ' && !letter.is_control());
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && text.starts_with(|letter: char| !letter.is_whitespace())
        && text
            .chars()
            .all(|letter| is_shown(letter) && !matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}'))
}

/// Words that are no text if nothing is around them.
const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];

/// A string: plain if that is certain, else as JSON has it, which is YAML as well.
fn scalar(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    let is_plain = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/')
        && text.chars().all(plain)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reader_gets_what_was_meant() {
        let value = json!({
            "kind": "CronJob",
            "no": "no",
            "number": 3,
            "text": "0 2 * * *",
            "octal": "0644",
            "empty": {},
            "list": [{ "b": 2, "a": ["x", "1"] }, "plain", []],
            "file": "a = 1\n\nb = \"é\"\n",
            "odd": "bell \u{7} \u{2028}\n",
        });
        let expected = "empty: {}\nfile: |\n  a = 1\n\n  b = \"é\"\nkind: CronJob\nlist:\n  - a:\n      - x\n      - \"1\"\n    b: 2\n  - plain\n  - []\n\"no\": \"no\"\nnumber: 3\noctal: \"0644\"\nodd: \"bell \\u0007 \u{2028}\\n\"\ntext: \"0 2 * * *\"\n";
        assert_eq!(document(&value), expected);
    }
}
