//! From a request to a [`Person`]: by token, by session, or because nobody is asked on loopback.
//!
//! **Invariants**
//! - What changes something is taken from a browser only if it comes from a page of ours: by `Origin`, or by the token that only our
//!   pages know. A program with a token of its own has no browser that could be misled.
//! - On loopback without users the name that was asked for is this host's: a page elsewhere whose name was made to lead here reads
//!   nothing.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use strongroom_model::Timestamp;

use crate::actor::TOKEN;
use crate::http::access::password::known_by;
use crate::http::access::person::{By, Person, changes};
use crate::http::access::sessions::Limits;
use crate::http::desk::Desk;
use crate::http::door::Peer;
use crate::http::problem::Problem;
use crate::http::witness::{Scene, stranger, witness_refusal};
use crate::settings::Settings;
use crate::settings::access::Role;

/// Where a page of ours says what only it can know.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// The cookie's name. With TLS browsers take `__Host-` from nobody but this very host.
pub fn cookie_name(is_private: bool) -> &'static str {
    if is_private { "__Host-strongroom" } else { "strongroom" }
}

/// The value of our cookie.
pub fn session_id(headers: &HeaderMap, is_private: bool) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == cookie_name(is_private)).map(|(_, value)| value)
}

/// Who asks, as far as the connection and the proxy say it.
pub fn peer(parts: &Parts, settings: &Settings) -> Peer {
    let unknown = Peer { address: IpAddr::from([0, 0, 0, 0]), is_private: false };
    let peer = parts.extensions.get::<Peer>().copied().unwrap_or(unknown);
    match settings.http.as_ref().is_some_and(|http| http.behind_proxy) {
        true => behind_proxy(peer, &parts.headers),
        false => peer,
    }
}

/// What the proxy nearest to us added, the last of each: what came before it anybody may have written.
fn behind_proxy(peer: Peer, headers: &HeaderMap) -> Peer {
    let last = |name: &str| {
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next().map(|word| word.trim().to_owned())
    };
    let address = last("x-forwarded-for").and_then(|address| address.parse().ok());
    let is_private = peer.is_private || last("x-forwarded-proto").as_deref() == Some("https");
    Peer { address: address.unwrap_or(peer.address), is_private }
}

impl FromRequestParts<Arc<Desk>> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Person, Problem> {
        let context = desk.context();
        let peer = peer(parts, &context.settings);
        if let Some(shown) = parts.headers.get(AUTHORIZATION) {
            let shown = shown.to_str().ok().and_then(|shown| shown.strip_prefix("Bearer "));
            let found = shown.and_then(|token| of_token(&context.settings, token.trim(), desk.now()));
            return found.ok_or_else(|| {
                let problem = Problem::not_signed_in("the token is not known, or has expired");
                let what = "with a token".to_owned();
                let scene =
                    Scene { verb: "sign-in", what, from: peer.address.to_string(), ..Scene::default() };
                witness_refusal(desk, &stranger(), &scene, &problem);
                problem
            });
        }
        if let Some(person) = of_session(desk, parts, peer) {
            same_site(parts, &person).inspect_err(|problem| {
                let what = format!("{} {}", parts.method, parts.uri.path());
                let scene =
                    Scene { verb: "request", what, from: peer.address.to_string(), ..Scene::default() };
                witness_refusal(desk, &person, &scene, problem);
            })?;
            return Ok(person);
        }
        of_loopback(&context.settings, parts, peer)
            .ok_or_else(|| Problem::not_signed_in("nobody is signed in here"))
    }
}

fn of_token(settings: &Settings, token: &str, now: Timestamp) -> Option<Person> {
    let hash = known_by(token);
    let (name, found) = settings.tokens.iter().find(|(_, known)| known.hash == hash)?;
    let person = Person {
        name: format!("{TOKEN}{name}"),
        role: found.role,
        sources: found.sources.clone(),
        by: By::Token,
        csrf: None,
    };
    (now < found.expires).then_some(person)
}

fn of_session(desk: &Desk, parts: &Parts, peer: Peer) -> Option<Person> {
    let context = desk.context();
    let http = context.settings.http.as_ref()?;
    let limits = Limits { idle: http.session_idle.0, length: http.session_length.0 };
    let id = session_id(&parts.headers, peer.is_private)?;
    desk.sessions.person(id, &context.settings.users, (limits, desk.now()))
}

/// Whoever reaches this host's own address sees, if nobody is configured to sign in.
fn of_loopback(settings: &Settings, parts: &Parts, peer: Peer) -> Option<Person> {
    let behind_proxy = settings.http.as_ref().is_some_and(|http| http.behind_proxy);
    let is_here = peer.address.is_loopback() && is_this_host(host(parts));
    let is_open = settings.users.is_empty() && (is_here || behind_proxy);
    let (name, role) = ("loopback".to_owned(), Role::Viewer);
    is_open.then_some(Person { name, role, sources: None, by: By::Loopback, csrf: None })
}

/// The host and port that were asked for.
fn host(parts: &Parts) -> &str {
    let said = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    said.or_else(|| parts.uri.authority().map(|authority| authority.as_str())).unwrap_or_default()
}

fn is_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Refuses what a page of another site could have a browser send.
fn same_site(parts: &Parts, person: &Person) -> Result<(), Problem> {
    if !changes(&parts.method) {
        return Ok(());
    }
    let shown = parts.headers.get(CSRF_HEADER).and_then(|shown| shown.to_str().ok());
    let knows = person.csrf.as_deref().is_some_and(|csrf| shown.is_some_and(|shown| is_same(csrf, shown)));
    match is_own_origin(parts) {
        Some(true) => Ok(()),
        None if knows => Ok(()),
        _ => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wrong-origin",
            "the request does not come from a page of this host",
        )
        .hint(format!("send the {CSRF_HEADER} that signing in gave, or use a token"))),
    }
}

/// Whether the page that sends it is ours; `None` if the browser does not say.
pub fn is_own_origin(parts: &Parts) -> Option<bool> {
    let origin = parts.headers.get(ORIGIN)?;
    let own = |uri: Uri| uri.authority().is_some_and(|authority| authority.as_str() == host(parts));
    Some(origin.to_str().is_ok_and(|origin| origin.parse().is_ok_and(own)))
}

/// Whether these are the same, in the same time whatever they are.
pub fn is_same(one: &str, other: &str) -> bool {
    blake3::hash(one.as_bytes()) == blake3::hash(other.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(Request::builder().method(method), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_changes_something_comes_from_a_page_of_ours() {
        let person = Person {
            name: "ada".into(),
            role: Role::Admin,
            sources: None,
            by: By::Session,
            csrf: Some("c5f".into()),
        };
        let own = ("host", "vault.example:8432");
        for (method, headers, passes) in [
            ("GET", vec![own], true),
            ("GET", vec![own, ("origin", "https://evil.example")], true),
            ("POST", vec![own], false),
            ("POST", vec![own, ("origin", "https://vault.example:8432")], true),
            ("POST", vec![own, ("origin", "https://vault.example")], false),
            ("POST", vec![own, ("origin", "https://evil.example")], false),
            ("POST", vec![own, ("origin", "null")], false),
            ("POST", vec![own, ("x-csrf-token", "c5f")], true),
            ("POST", vec![own, ("x-csrf-token", "c5")], false),
            ("POST", vec![own, ("x-csrf-token", "")], false),
            // Who has our token does not come from elsewhere, unless the browser says so.
            ("DELETE", vec![own, ("x-csrf-token", "c5f"), ("origin", "https://evil.example")], false),
        ] {
            assert_eq!(same_site(&parts(method, &headers), &person).is_ok(), passes, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_not_this_host() {
        for (host, is_here) in [
            ("localhost", true),
            ("LOCALHOST:8432", true),
            ("127.0.0.1:8432", true),
            ("[::1]:8432", true),
            ("evil.example:8432", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_this_host(host), is_here, "{host}");
        }
    }

    #[test]
    fn the_proxy_nearest_to_us_is_believed_and_nobody_before_it() {
        let direct = Peer { address: IpAddr::from([127, 0, 0, 1]), is_private: false };
        for (headers, address, is_private) in [
            (vec![], "127.0.0.1", false),
            (vec![("x-forwarded-for", "192.0.2.9")], "192.0.2.9", false),
            (
                vec![("x-forwarded-for", "192.0.2.1, 192.0.2.9"), ("x-forwarded-proto", "https")],
                "192.0.2.9",
                true,
            ),
            (vec![("x-forwarded-for", "192.0.2.9"), ("x-forwarded-for", "192.0.2.7")], "192.0.2.7", false),
            (
                vec![("x-forwarded-for", "somewhere"), ("x-forwarded-proto", "https, http")],
                "127.0.0.1",
                false,
            ),
        ] {
            let found = behind_proxy(direct, &parts("GET", &headers).headers);
            assert_eq!(
                (found.address.to_string().as_str(), found.is_private),
                (address, is_private),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_own_name() {
        for (cookies, private, found) in [
            ("strongroom=abc", false, Some("abc")),
            ("a=b; strongroom=abc; c=d", false, Some("abc")),
            ("strongroom=abc", true, None),
            ("__Host-strongroom=abc", true, Some("abc")),
            ("xstrongroom=abc", false, None),
            ("strongroom", false, None),
        ] {
            assert_eq!(
                session_id(&parts("GET", &[("cookie", cookies)]).headers, private),
                found,
                "{cookies}"
            );
        }
    }
}
