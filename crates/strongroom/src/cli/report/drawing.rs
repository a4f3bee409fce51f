//! An architecture as SVG: sources to the left, vaults to the right, and what goes where in between. In the page's own colours.

use std::fmt::Write;

use strongroom_ops::report::architecture::{Architecture, Inside};

use crate::paper::escaped;

/// Sources that are drawn; of more their number is said.
const DRAWN: usize = 40;

/// A box's size, and what lies between two of a column, in pixels.
const BOX: (usize, usize, usize) = (280, 54, 18);

/// Where the columns begin, and how wide all of it is.
const COLUMNS: (usize, usize, usize) = (10, 560, 850);

/// Letters that a box has room for.
const LETTERS: usize = 36;

/// Draws it.
pub fn drawn(all: &Architecture) -> String {
    let (left, right, width) = COLUMNS;
    let mut sources: Vec<(String, String)> =
        all.sources.iter().take(DRAWN).map(|of| (of.source.clone(), of.kind.clone())).collect();
    if all.sources.len() > DRAWN {
        sources.push((format!("and {} more", all.sources.len() - DRAWN), String::new()));
    }
    let vaults: Vec<(String, String)> = all
        .vaults
        .iter()
        .map(|vault| {
            let suite = match &vault.inside {
                Inside::Open { suite, .. } => suite.as_str(),
                Inside::Shut(_) => "cannot be opened",
            };
            (vault.name.clone(), format!("{suite}, lock: {}", vault.lock))
        })
        .collect();
    let height = top(sources.len().max(vaults.len())) + 10;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"sources and the vaults that they go to\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"system-ui,sans-serif\" font-size=\"14\" fill=\"currentColor\" stroke=\"none\">\n"
    );
    for number in 0..sources.len() {
        if !vaults.is_empty() {
            line(&mut svg, (left + BOX.0, middle(number)), (right, middle(0)), "");
        }
    }
    for (number, _) in vaults.iter().enumerate().skip(1) {
        let x = right + BOX.0 / 2;
        line(&mut svg, (x, top(number - 1) + BOX.1), (x, top(number)), " stroke-dasharray=\"5 4\"");
    }
    for (column, boxes) in [(left, &sources), (right, &vaults)] {
        for (number, words) in boxes.iter().enumerate() {
            shown(&mut svg, (column, top(number)), words);
        }
    }
    svg + "</svg>"
}

fn top(number: usize) -> usize {
    10 + number * (BOX.1 + BOX.2)
}

fn middle(number: usize) -> usize {
    top(number) + BOX.1 / 2
}

fn line(svg: &mut String, (x, y): (usize, usize), (to_x, to_y): (usize, usize), style: &str) {
    // Writing into a string does not end in an error.
    let _ = writeln!(
        svg,
        "<line x1=\"{x}\" y1=\"{y}\" x2=\"{to_x}\" y2=\"{to_y}\" stroke=\"currentColor\" stroke-opacity=\".45\"{style}/>"
    );
}

fn shown(svg: &mut String, (x, y): (usize, usize), (name, about): &(String, String)) {
    let (width, height, _) = BOX;
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"currentColor\" fill-opacity=\".06\" stroke=\"currentColor\" stroke-opacity=\".5\"/>\
         <text x=\"{}\" y=\"{}\" font-weight=\"600\">{}</text><text x=\"{}\" y=\"{}\" font-size=\"12\" opacity=\".75\">{}</text>",
        x + 12,
        y + 22,
        escaped(&shortened(name)),
        x + 12,
        y + 41,
        escaped(&shortened(about)),
    );
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_ops::report::architecture::{Protection, Store};

    use super::*;

    #[test]
    fn hostile_names_stay_text_and_many_sources_stay_a_drawing() {
        let source = |number: usize| Protection {
            source: format!("s{number}"),
            kind: "<postgres>".into(),
            journal: String::new(),
            plans: Vec::new(),
            copies: Vec::new(),
        };
        let vault = |name: &str| Store {
            name: name.into(),
            place: String::new(),
            lock: "none".into(),
            keeps: String::new(),
            inside: Inside::Shut(String::new()),
        };
        let all = Architecture {
            sources: (0..50).map(source).collect(),
            agents: Vec::new(),
            vaults: vec![vault("</svg><script>"), vault(&"ü".repeat(99))],
        };
        let svg = drawn(&all);
        assert!(svg.contains("and 10 more") && !svg.contains("s40<") && !svg.contains("<script"), "{svg}");
        assert!(
            svg.contains(&format!("{}…", "ü".repeat(LETTERS))) && svg.contains("&lt;postgres&gt;"),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect").count(), 43);
        assert!(drawn(&Architecture::default()).ends_with("</svg>"));
    }
}
