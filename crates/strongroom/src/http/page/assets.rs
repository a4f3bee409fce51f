//! The style, the script and the mark: part of the binary, each at an address that its content decides, so that it may be kept for
//! ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// A year, which is for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A file of the page.
struct Asset {
    address: String,
    kind: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, (ending, kind): (&str, &'static str), content: &'static str) -> Asset {
        let hash = blake3::hash(content.as_bytes()).to_hex();
        Asset { address: format!("/assets/{name}-{}.{ending}", &hash[..16]), kind, content }
    }
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new("style", ("css", "text/css; charset=utf-8"), include_str!("style.css")),
        Asset::new("script", ("js", "text/javascript; charset=utf-8"), include_str!("script.js")),
        Asset::new("mark", ("svg", "image/svg+xml"), include_str!("mark.svg")),
    ]
});

/// Where the style is.
pub fn style() -> &'static str {
    &ASSETS[0].address
}

/// Where the script is.
pub fn script() -> &'static str {
    &ASSETS[1].address
}

/// Where the mark is.
pub fn mark() -> &'static str {
    &ASSETS[2].address
}

/// `GET /assets/{name}`
pub async fn asset(Path(name): Path<String>) -> Response {
    let wanted = ASSETS.iter().find(|asset| asset.address.strip_prefix("/assets/") == Some(name.as_str()));
    match wanted {
        Some(asset) => {
            ([(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, FOR_EVER)], asset.content).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The style names no other place to fetch from, and no page has styles or scripts in its text.
    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for asset in ASSETS.iter() {
            for word in ["https:", "@import", "url(//", "innerHTML", "eval("] {
                assert!(!asset.content.contains(word), "{}: {word}", asset.address);
            }
        }
    }
}
