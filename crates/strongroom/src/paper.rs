//! A paper: what a report, a checklist or a runbook says, as text, as comma-separated values, as Markdown, or as a page that needs nothing beside it.
//!
//! **Invariant**: whatever stands in a cell stays in it: pages are escaped, and no spreadsheet takes a cell for a formula.

use clap::ValueEnum;

use crate::output::table;

/// What a page looks like: by day and by night, on paper, and on a phone, where each row becomes a card.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--good:#1a7f37;--bad:#cf222e;--unsure:#9a6700}\
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#ff7b72;--unsure:#d29922}}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;overflow-wrap:break-word}div{overflow-x:auto}\
h1{margin:0 0 .2rem;line-height:1.2}h2{margin:2rem 0 .5rem;font-size:1.2rem}.note{opacity:.75;margin:0}.lead{font-size:1.1rem;font-weight:600}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}\
th{font-size:.85rem;border-bottom-width:2px}tr.good td:first-child{box-shadow:inset 4px 0 var(--good)}\
tr.bad td:first-child{box-shadow:inset 4px 0 var(--bad)}tr.unsure td:first-child{box-shadow:inset 4px 0 var(--unsure)}\
\
figure{margin:0;overflow-x:auto}svg{max-width:100%;height:auto}pre{background:#8882;padding:.7rem;overflow-x:auto;white-space:pre-wrap}code{font:13px/1.5 ui-monospace,monospace}\
@media(max-width:45rem){thead{position:absolute;clip-path:inset(50%)}tr{display:block;border:1px solid var(--line);margin:.6rem 0}\
td{display:flex;gap:.6rem;border:0}td span{overflow-wrap:anywhere;min-width:0}td::before{content:attr(data-name);flex:0 0 8rem;opacity:.7}}\
@media print{body{margin:0;max-width:none;font-size:10pt}td{overflow-wrap:anywhere}tr,li,figure{break-inside:avoid}h2{break-after:avoid}thead{display:table-header-group}}";

/// How a paper is written for people and their programs; JSON is `--output json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sheet {
    /// As a table
    #[default]
    Text,
    /// The first table as comma-separated values (RFC 4180), with a head
    Csv,
    /// As a page that needs nothing beside it
    Html,
}

/// A whole paper.
#[derive(Clone, Debug, Default)]
pub struct Paper {
    /// What it is about.
    pub title: String,
    /// When, and by what.
    pub note: String,
    /// What it comes to, in a sentence; empty if the parts say all.
    pub lead: String,
    /// In the order in which they are read.
    pub parts: Vec<Part>,
}

/// A part of a paper.
#[derive(Clone, Debug)]
pub enum Part {
    /// A table under a heading, which may be empty.
    Table(String, Rows),
    /// Plain text under a heading.
    Prose(String, String),
    /// Steps under a heading: what to do, and the command lines that do it.
    Steps(String, Vec<(String, Vec<String>)>),
    /// A drawing under a heading: as SVG, and as lines for a terminal.
    Figure(String, String, String),
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The columns' names.
    pub head: &'static [&'static str],
    /// In the order in which they are read.
    pub rows: Vec<Row>,
}

/// A row of a table: plain text, a cell each.
#[derive(Clone, Debug)]
pub struct Row {
    /// As many as the head has.
    pub cells: Vec<String>,
    /// What it means to who reads it.
    pub tone: Tone,
}

/// What a row means to who reads it. Its cells say so, too: colour alone is not for everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
    /// Nobody knows.
    Unsure,
}

impl Paper {
    /// In this manner.
    pub fn written(&self, sheet: Sheet) -> String {
        match sheet {
            Sheet::Text => self.text(),
            Sheet::Csv => self.csv(),
            Sheet::Html => self.html(),
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.title, self.note);
        if !self.lead.is_empty() {
            text.push_str(&format!("\n{}\n", self.lead));
        }
        for part in &self.parts {
            let (heading, body) = part.text();
            text.push_str(&if heading.is_empty() { "\n".to_owned() } else { format!("\n{heading}\n\n") });
            text.push_str(&body);
            text.push('\n');
        }
        text.trim_end().to_owned()
    }

    /// The first table, by RFC 4180: one file holds one table.
    pub fn csv(&self) -> String {
        let first = self.parts.iter().find_map(|part| match part {
            Part::Table(_, rows) => Some(rows),
            _ => None,
        });
        let Some(Rows { head, rows }) = first else { return String::new() };
        let line = |cells: &mut dyn Iterator<Item = &str>| cells.map(csv_cell).collect::<Vec<_>>().join(",");
        let head = line(&mut head.iter().copied());
        let rows = rows.iter().map(|row| line(&mut row.cells.iter().map(String::as_str)));
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\r\n")
    }

    /// A page.
    pub fn html(&self) -> String {
        let (title, note) = (escaped(&self.title), escaped(&self.note));
        let lead = match self.lead.is_empty() {
            true => String::new(),
            false => format!("<p class=\"lead\">{}</p>\n", escaped(&self.lead)),
        };
        let parts: String = self.parts.iter().map(Part::html).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n<h1>{title}</h1>\n<p class=\"note\">{note}</p>\n{lead}{parts}</main></body></html>"
        )
    }

    /// Markdown, as CommonMark and GitHub read it.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}\n", marked(&self.title), marked(&self.note));
        if !self.lead.is_empty() {
            text.push_str(&format!("\n**{}**\n", marked(&self.lead)));
        }
        for part in &self.parts {
            text.push_str(&part.markdown());
        }
        text
    }
}

impl Part {
    fn heading(&self) -> &str {
        match self {
            Part::Table(heading, _)
            | Part::Prose(heading, _)
            | Part::Steps(heading, _)
            | Part::Figure(heading, ..) => heading,
        }
    }

    fn text(&self) -> (&str, String) {
        let body = match self {
            Part::Table(_, Rows { head, rows }) => {
                let cells: Vec<Vec<String>> = rows.iter().map(|row| row.cells.clone()).collect();
                table(head, &cells, &[])
            }
            Part::Prose(_, text) => text.clone(),
            Part::Steps(_, steps) => {
                let step = |(number, (what, commands)): (usize, &(String, Vec<String>))| {
                    let commands: String =
                        commands.iter().map(|command| format!("\n     {command}")).collect();
                    format!("{:>2}. {what}{commands}", number + 1)
                };
                steps.iter().enumerate().map(step).collect::<Vec<_>>().join("\n")
            }
            Part::Figure(_, _, lines) => lines.clone(),
        };
        (self.heading(), body)
    }

    fn html(&self) -> String {
        let heading = match self.heading() {
            "" => String::new(),
            heading => format!("<h2>{}</h2>\n", escaped(heading)),
        };
        let body = match self {
            Part::Table(_, rows) => rows.html(),
            Part::Prose(_, text) => format!("<p>{}</p>\n", escaped(text)),
            Part::Steps(_, steps) => {
                let command = |line: &String| format!("<pre><code>{}</code></pre>", escaped(line));
                let step = |(what, commands): &(String, Vec<String>)| {
                    format!(
                        "<li>{}{}</li>\n",
                        escaped(what),
                        commands.iter().map(command).collect::<String>()
                    )
                };
                format!("<ol>\n{}</ol>\n", steps.iter().map(step).collect::<String>())
            }
            Part::Figure(_, svg, _) => format!("<figure>{svg}</figure>\n"),
        };
        heading + &body
    }

    fn markdown(&self) -> String {
        let heading = match self.heading() {
            "" => "\n".to_owned(),
            heading => format!("\n## {}\n\n", marked(heading)),
        };
        let body = match self {
            Part::Table(_, Rows { head, rows }) => {
                let line = |cells: &mut dyn Iterator<Item = String>| {
                    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
                };
                let rule = "|---".repeat(head.len()) + "|\n";
                let rows = rows.iter().map(|row| line(&mut row.cells.iter().map(|cell| marked(cell))));
                line(&mut head.iter().map(|name| marked(name))) + &rule + &rows.collect::<String>()
            }
            Part::Prose(_, text) => marked(text) + "\n",
            Part::Steps(_, steps) => {
                let command = |line: &String| format!("\n       {line}");
                let step = |(number, (what, commands)): (usize, &(String, Vec<String>))| {
                    let block = match commands.is_empty() {
                        true => String::new(),
                        // Eight spaces: a block of code within an item of a list.
                        false => format!("\n{}\n", commands.iter().map(command).collect::<String>()),
                    };
                    format!("{}. {}{block}\n", number + 1, marked(what))
                };
                steps.iter().enumerate().map(step).collect()
            }
            Part::Figure(_, _, lines) => format!("```\n{lines}\n```\n"),
        };
        heading + &body
    }
}

impl Rows {
    fn html(&self) -> String {
        let named = |cell: &&str| format!("<th scope=\"col\">{}</th>", escaped(cell));
        let head: String = self.head.iter().map(named).collect();
        let row = |row: &Row| {
            let cell = |(name, cell): (&&str, &String)| {
                // Keys and paths may break where their parts do.
                let cell = escaped(cell).replace('/', "/<wbr>");
                format!("<td data-name=\"{}\"><span>{cell}</span></td>", escaped(name))
            };
            let cells: String = self.head.iter().zip(&row.cells).map(cell).collect();
            format!("<tr{}>{cells}</tr>\n", row.tone.class())
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!("<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n")
    }
}

impl Row {
    /// One that means nothing by itself.
    pub fn plain(cells: Vec<String>) -> Row {
        Row { cells, tone: Tone::Plain }
    }

    /// One that is as it should be, or not.
    pub fn judged(cells: Vec<String>, is_good: bool) -> Row {
        Row { cells, tone: if is_good { Tone::Good } else { Tone::Bad } }
    }
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => " class=\"good\"",
            Tone::Bad => " class=\"bad\"",
            Tone::Unsure => " class=\"unsure\"",
        }
    }
}

/// A cell that spreadsheets neither split nor take for a formula.
fn csv_cell(cell: &str) -> String {
    let guarded = match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.len() > 1 {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match guarded.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", guarded.replace('"', "\"\"")),
        false => guarded,
    }
}

/// Text that a page shows as it is, in attributes as well.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
        .replace('\n', "<br>")
}

/// Text that Markdown shows as it is, on one line.
fn marked(text: &str) -> String {
    let mut marked = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' => marked.extend(['\\', letter]),
            '\n' => marked.push_str("<br>"),
            letter => marked.push(letter),
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper(cell: &str) -> Paper {
        let rows = Rows {
            head: &["a", "b"],
            rows: vec![Row { cells: vec![cell.into(), "2".into()], tone: Tone::Bad }],
        };
        let steps = vec![("do <it>".to_owned(), vec!["strongroom list --color never".to_owned()])];
        Paper {
            title: "T & t".into(),
            note: "n".into(),
            lead: String::new(),
            parts: vec![Part::Table("h".into(), rows), Part::Steps(String::new(), steps)],
        }
    }

    #[test]
    fn cells_stay_cells_whatever_is_in_them() {
        for (cell, line) in [
            ("x", "x,2"),
            ("x, y", "\"x, y\",2"),
            ("say \"x\"", "\"say \"\"x\"\"\",2"),
            ("two\nlines", "\"two\nlines\",2"),
            ("=1+1", "'=1+1,2"),
            ("-", "-,2"),
        ] {
            assert_eq!(paper(cell).csv(), format!("a,b\r\n{line}"));
        }
        let page = paper("<script>\"&'\"</script>").html();
        let escaped =
            "<td data-name=\"a\"><span>&lt;script&gt;&quot;&amp;&#39;&quot;&lt;/<wbr>script&gt;</span></td>";
        assert!(page.contains(&format!("<tr class=\"bad\">{escaped}")), "{page}");
        assert!(page.contains("<th scope=\"col\">a</th>") && page.contains("<h1>T &amp; t</h1>"), "{page}");
        assert!(page.contains("<li>do &lt;it&gt;<pre><code>strongroom list"), "{page}");
        let marked = paper("a|b_*<c>\nd").markdown();
        assert!(marked.contains("| a\\|b\\_\\*\\<c\\><br>d | 2 |\n"), "{marked}");
        assert!(marked.contains("1. do \\<it\\>\n\n       strongroom list --color never\n"), "{marked}");
    }
}
