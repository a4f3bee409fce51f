//! A report's rows as a table, as comma-separated values, or as a page.

use crate::output::table;

/// What a page looks like, on paper as well, by day and by night.
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color-scheme:light dark}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #8886;vertical-align:top}\
caption{text-align:left;padding-bottom:.6rem;opacity:.8}div{overflow-x:auto}";

/// A report.
pub struct Rows<'a> {
    /// What it is about.
    pub title: &'a str,
    /// When, and by what.
    pub note: String,
    /// The columns' names.
    pub head: &'a [&'a str],
    /// Plain text, a cell each.
    pub rows: Vec<Vec<String>>,
}

impl Rows<'_> {
    /// For a terminal.
    pub fn text(&self) -> String {
        format!("{}\n{}\n\n{}", self.title, self.note, table(self.head, &self.rows, &[]))
    }

    /// RFC 4180.
    pub fn csv(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| cells.map(csv_cell).collect::<Vec<_>>().join(",");
        let head = line(&mut self.head.iter().copied());
        let rows = self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\r\n")
    }

    /// A page.
    pub fn html(&self) -> String {
        let named = |cell: &&str| format!("<th scope=\"col\">{}</th>", escaped(cell));
        let head: String = self.head.iter().map(named).collect();
        let cell = |cell: &String| format!("<td>{}</td>", escaped(cell));
        let row = |row: &Vec<String>| format!("<tr>{}</tr>\n", row.iter().map(cell).collect::<String>());
        let rows: String = self.rows.iter().map(row).collect();
        let (title, note) = (escaped(self.title), escaped(&self.note));
        format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n<div><table><caption>{note}</caption>\n\
             <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n</html>"
        )
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cell: &str) -> Rows<'_> {
        Rows {
            title: "T & t",
            note: "n".into(),
            head: &["a", "b"],
            rows: vec![vec![cell.into(), "2".into()]],
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
            assert_eq!(rows(cell).csv(), format!("a,b\r\n{line}"));
        }
        let page = rows("<script>\"&\"</script>").html();
        assert!(page.contains("<td>&lt;script&gt;&quot;&amp;&quot;&lt;/script&gt;</td><td>2</td>"), "{page}");
        assert!(page.contains("<th scope=\"col\">a</th>") && page.contains("<h1>T &amp; t</h1>"), "{page}");
    }
}
