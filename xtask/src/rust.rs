//! Rust source as words and marks: as much of the language as the rules of tidy need, and no more.
//!
//! Text inside strings, characters and comments is never taken for code: a string is one token, comments stand in a
//! list of their own. Every token knows its line (from 1).

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or keyword (`r#type` is the word `type`).
    Word,
    /// A string, byte string, character or number.
    Literal,
    /// `'a`
    Lifetime,
    /// Punctuation: one character, or `::`, `->`, `=>`.
    Mark,
}

/// A piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text.
    pub text: &'a str,
    /// The line it starts on.
    pub line: usize,
}

/// A comment, of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comment<'a> {
    /// Its text, with the slashes.
    pub text: &'a str,
    /// The line it starts on.
    pub line: usize,
}

impl Comment<'_> {
    /// The line it ends on.
    pub fn last_line(&self) -> usize {
        self.line + self.text.matches('\n').count()
    }
}

/// One file, read.
#[derive(Default)]
pub struct Source<'a> {
    /// The code, in order.
    pub tokens: Vec<Token<'a>>,
    /// The comments, in order.
    pub comments: Vec<Comment<'a>>,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// The line of `fn`.
    pub line: usize,
    /// From `fn` to the closing brace, both counted.
    pub lines: usize,
    /// Arguments beside `self`.
    pub parameters: usize,
    /// Whether it stands in an `impl Trait for Type`, so that its arguments are the trait's.
    pub is_of_trait: bool,
}

impl<'a> Source<'a> {
    /// Reads a file. Never fails: what is not Rust gives tokens that no rule knows.
    pub fn read(text: &'a str) -> Source<'a> {
        let mut source = Source::default();
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let length = if first.is_whitespace() {
                first.len_utf8()
            } else if rest.starts_with("//") || rest.starts_with("/*") {
                let length = comment_length(rest);
                source.comments.push(Comment { text: &rest[..length], line });
                length
            } else {
                let (kind, length) = token_at(rest, first);
                let shown = rest[..length].strip_prefix("r#").filter(|_| kind == Kind::Word);
                source.tokens.push(Token { kind, text: shown.unwrap_or(&rest[..length]), line });
                length
            };
            line += rest[..length].matches('\n').count();
            rest = &rest[length..];
        }
        source
    }

    /// The text of the token at `index`; empty past the end.
    pub fn text(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |token| token.text)
    }

    /// Whether the tokens from `index` on read `texts`.
    pub fn reads(&self, index: usize, texts: &[&str]) -> bool {
        texts.iter().enumerate().all(|(offset, text)| self.text(index + offset) == *text)
    }

    /// The index of the mark that closes the `(`, `[` or `{` at `open`, or the end of the file.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (index, token) in self.tokens.iter().enumerate().skip(open) {
            match (token.kind, token.text) {
                (Kind::Mark, "(" | "[" | "{") => depth += 1,
                (Kind::Mark, ")" | "]" | "}") => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return index;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// The source without items marked `#[cfg(test)]`.
    pub fn without_tests(&self) -> Source<'a> {
        let mut kept = Source { tokens: Vec::new(), comments: self.comments.clone() };
        let mut index = 0;
        while index < self.tokens.len() {
            if self.reads(index, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                index = self.item_end(index + 7) + 1;
            } else {
                kept.tokens.push(self.tokens[index]);
                index += 1;
            }
        }
        kept
    }

    /// The index of an item's last token: its `;`, or the `}` of its body.
    fn item_end(&self, start: usize) -> usize {
        let mut index = start;
        while index < self.tokens.len() {
            match self.text(index) {
                ";" => return index,
                "{" => return self.closing(index),
                "(" | "[" => index = self.closing(index) + 1,
                _ => index += 1,
            }
        }
        index
    }

    /// Every function that has a body.
    pub fn functions(&self) -> Vec<Function<'a>> {
        let mut found = Vec::new();
        let trait_impls = self.trait_impls();
        for (index, token) in self.tokens.iter().enumerate() {
            let is_name = self.tokens.get(index + 1).is_some_and(|next| next.kind == Kind::Word);
            if token.kind != Kind::Word || token.text != "fn" || !is_name {
                continue; // `fn(u8) -> u8` is a type
            }
            let open = self.after_generics(index + 2);
            let close = self.closing(open);
            let end = self.item_end(close + 1);
            if self.text(end) == "}" {
                let last = self.tokens[end].line;
                let parameters = self.count_items(open, close) - usize::from(self.takes_self(open, close));
                let (name, line, lines) = (self.text(index + 1), token.line, last - token.line + 1);
                let is_of_trait = trait_impls.iter().any(|body| body.contains(&index));
                found.push(Function { name, line, lines, parameters, is_of_trait });
            }
        }
        found
    }

    /// Where the bodies of `impl Trait for Type` are.
    fn trait_impls(&self) -> Vec<std::ops::Range<usize>> {
        let mut found = Vec::new();
        for index in 0..self.tokens.len() {
            let before = index.checked_sub(1).map_or("", |before| self.text(before));
            if self.text(index) != "impl" || !matches!(before, "" | "}" | "{" | ";" | "]" | "unsafe") {
                continue; // `-> impl Trait` and the like
            }
            let open =
                (index..self.tokens.len()).find(|at| self.text(*at) == "{").unwrap_or(self.tokens.len());
            // `for<'a>` belongs to a bound.
            if (index..open).any(|at| self.text(at) == "for" && self.text(at + 1) != "<") {
                found.push(open..self.closing(open));
            }
        }
        found
    }

    /// Whether the first item between `open` and `close` is `self` in one of its forms.
    fn takes_self(&self, open: usize, close: usize) -> bool {
        let first = (open + 1..close).find(|index| {
            !matches!(self.text(*index), "&" | "mut") && self.tokens[*index].kind != Kind::Lifetime
        });
        first.is_some_and(|index| self.text(index) == "self")
    }

    /// The index after `<…>` at `start`, or `start`.
    fn after_generics(&self, start: usize) -> usize {
        let mut depth = 0_usize;
        for index in start..self.tokens.len() {
            match self.text(index) {
                "<" => depth += 1,
                ">" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return if self.text(index) == ">" { index + 1 } else { index };
            }
        }
        self.tokens.len()
    }

    /// How many comma-separated items stand between `open` and `close`.
    fn count_items(&self, open: usize, close: usize) -> usize {
        let (mut depth, mut items, mut pending) = (0_usize, 0, false);
        for index in open + 1..close {
            match self.text(index) {
                "," if depth == 0 => pending = false,
                text => {
                    items += usize::from(!pending);
                    pending = true;
                    match text {
                        "(" | "[" | "{" | "<" => depth += 1,
                        ")" | "]" | "}" | ">" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                }
            }
        }
        items
    }
}

/// The length of the comment at the start of `text`. Block comments nest.
fn comment_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The kind and length of the token at the start of `text`, which begins with `first`.
fn token_at(text: &str, first: char) -> (Kind, usize) {
    if let Some(length) = string_length(text) {
        return (Kind::Literal, length);
    }
    if first == '\'' {
        return quote_token(text);
    }
    if let Some(raw) = text.strip_prefix("r#") {
        return (Kind::Word, 2 + word_length(raw));
    }
    if first.is_ascii_digit() {
        let fraction = |at: usize| {
            text[at..].starts_with('.') && text[at + 1..].starts_with(|c: char| c.is_ascii_digit())
        };
        let whole = word_length(text);
        return (
            Kind::Literal,
            if fraction(whole) { whole + 1 + word_length(&text[whole + 1..]) } else { whole },
        );
    }
    if is_word_character(first) {
        return (Kind::Word, word_length(text));
    }
    let pair = ["::", "->", "=>"].into_iter().find(|pair| text.starts_with(pair));
    (Kind::Mark, pair.map_or(first.len_utf8(), str::len))
}

fn is_word_character(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_word_character(c)).unwrap_or(text.len())
}

/// The length of the string at the start of `text`, plain or raw, with any prefix of `b`, `c`, `r`.
fn string_length(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let after = &text[prefix..];
    if text[..prefix].contains('r') {
        let hashes = after.find(|c| c != '#')?;
        if !after[hashes..].starts_with('"') {
            return None;
        }
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix + hashes + 1;
        return Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()));
    }
    let quote = if after.starts_with('"') { b'"' } else { return None };
    Some(prefix + quoted_length(after, quote))
}

/// The length of quoted text with escapes, from its opening quote.
fn quoted_length(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character or a lifetime: both begin with `'`.
fn quote_token(text: &str) -> (Kind, usize) {
    let mut characters = text[1..].chars();
    let (first, second) = (characters.next(), characters.next());
    if first == Some('\\') || second == Some('\'') {
        (Kind::Literal, quoted_length(text, b'\''))
    } else {
        (Kind::Lifetime, 1 + word_length(&text[1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let source = Source::read(text);
        source.tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        assert_eq!(
            words(r#"a("fn b() {", 'x', '\'', b'}') // c {"#),
            r#"a ( "fn b() {" , 'x' , '\'' , b '}' )"#
        );
        assert_eq!(words("r#\"a \"{\" b\"# x /* { /* } */ { */ y"), "r#\"a \"{\" b\"# x y");
        assert_eq!(
            words("fn f<'a>(r#type: &'a str) -> 1.5e3..2"),
            "fn f < 'a > ( type : & 'a str ) -> 1.5e3 . . 2"
        );
        assert_eq!(words("\"a\\\"b\" br\"\\\" c"), "\"a\\\"b\" br\"\\\" c");
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let source = Source::read("/* one\ntwo */ \"three\nfour\" five\n// six");
        assert_eq!(source.tokens.last().map(|token| (token.text, token.line)), Some(("five", 3)));
        assert_eq!(
            source.comments.iter().map(|c| (c.line, c.last_line())).collect::<Vec<_>>(),
            [(1, 2), (4, 4)]
        );
    }

    #[test]
    fn functions_have_lengths_and_parameters() {
        let check = |text: &str, name: &str, lines: usize, parameters: usize| {
            let functions = Source::read(text).functions();
            let found =
                functions.iter().find(|function| function.name == name).map(|f| (f.lines, f.parameters));
            assert_eq!(found, Some((lines, parameters)), "{text}");
        };
        check("fn a() {}", "a", 1, 0);
        check("fn a(self, b: u8,) -> u8 {\n'}'\n}", "a", 3, 1);
        check("fn a(&'a mut self, b: u8) {}", "a", 1, 1);
        check("fn a<F: Fn(u8, u8) -> u8>(f: F, m: Map<u8, (u8, u8)>) where F: Send {\n}", "a", 2, 2);
        check(
            "async fn a(f: impl Fn(u8, u8) -> u8, (x, y): (u8, u8), [p, q]: [u8; 2]) {\n{}\n}\n",
            "a",
            3,
            3,
        );
        check("trait T { fn none(&self, a: u8);\nfn some(&mut self) -> [u8; 2] { [0; 2] } }", "some", 1, 0);
        assert_eq!(Source::read("trait T { fn none(&self); }\nstruct S(fn(u8) -> u8);").functions(), []);
    }

    #[test]
    fn a_method_of_a_trait_is_told_apart() {
        let text = "fn a() -> impl X { b }\nimpl A { fn b() {} }\nimpl<T: for<'a> X<'a>> A<T> { fn c() {} }\nimpl X for A { fn d() {} }";
        let of_trait: Vec<_> =
            Source::read(text).functions().iter().map(|f| (f.name, f.is_of_trait)).collect();
        assert_eq!(of_trait, [("a", false), ("b", false), ("c", false), ("d", true)]);
    }

    #[test]
    fn test_items_are_left_out() {
        let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod tests { fn x() {} }\nmod c;";
        let kept = Source::read(text).without_tests();
        assert_eq!(kept.tokens.iter().map(|t| t.text).collect::<String>(), "moda;modc;");
    }
}
