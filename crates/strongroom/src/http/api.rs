//! The API: JSON under `/api/v1`, described by itself (OpenAPI 3.1).
//!
//! ```text
//! handler + what utoipa reads off it ▶ Routes ─┬▶ Router
//!                                              └▶ /api/v1/openapi.json
//! ```
//!
//! **Invariants**
//! - A route is in the document because it is in the router: both are made of one list.
//! - What a person may not know of is left out, and is not found when asked for by its name.

mod sent;
mod session;
mod views;
mod jobs;
mod acts;
mod audit;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, get, on};
use serde_json::{Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths, RefOr};

use crate::http::desk::Desk;
use crate::http::problem::Problem;

/// Where the document is.
const DOCUMENT: &str = "/api/v1/openapi.json";

/// Routes, and what is said of them.
#[derive(Default)]
struct Routes {
    router: Router<Arc<Desk>>,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Routes {
    /// One more.
    fn add<P, H, T>(mut self, _: P, handler: H) -> Routes
    where
        P: utoipa::Path + utoipa::__dev::SchemaReferences,
        H: Handler<T, Arc<Desk>>,
        T: 'static,
    {
        for method in P::methods() {
            self.router = self.router.route(&P::path(), on(filter(&method), handler.clone()));
        }
        self.paths.add_path_operation(P::path(), P::methods(), P::operation());
        P::schemas(&mut self.schemas);
        self
    }
}

fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Patch => MethodFilter::PATCH,
        _ => MethodFilter::GET,
    }
}

fn all() -> Routes {
    let routes = session::add(Routes::default());
    let routes = jobs::add(views::add(routes));
    audit::add(acts::add(routes))
}

/// The API's routes.
pub fn routes() -> Router<Arc<Desk>> {
    let Routes { router, paths, schemas } = all();
    let document = Arc::new(document(paths, schemas).to_string());
    let answer = move || {
        let document = Arc::clone(&document);
        async move { ([(CONTENT_TYPE, "application/json")], (*document).clone()) }
    };
    router.route(DOCUMENT, get(answer))
}

fn document(paths: Paths, schemas: Vec<(String, RefOr<Schema>)>) -> Value {
    let info = InfoBuilder::new().title("Strongroom").version("1").description(Some(
        "What an agent knows and does. Sign in with a token (authorization: Bearer) or a session.",
    ));
    let components = ComponentsBuilder::new().schemas_from_iter(schemas).schema("Problem", Problem::schema());
    let api: OpenApi =
        OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build();
    // Our own value: JSON cannot refuse it.
    let mut document = serde_json::to_value(&api).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "token": { "type": "http", "scheme": "bearer" },
        "session": { "type": "apiKey", "in": "cookie", "name": "strongroom" },
    });
    forbid_others(&mut document["components"]["schemas"]);
    document["security"] = json!([{ "token": [] }, { "session": [] }]);
    document
}

/// Says of every object that is sent that it has no members but those that are named: so strictly it is read.
fn forbid_others(schemas: &mut Value) {
    let deeds = schemas["Deed"]["oneOf"].as_array_mut().into_iter().flatten();
    deeds.for_each(|deed| deed["additionalProperties"] = json!(false));
    for name in ["Credentials", "Wanted"] {
        schemas[name]["additionalProperties"] = json!(false);
    }
}

/// What is answered where something else can be asked.
pub async fn no_such_method() -> impl IntoResponse {
    let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    Problem::new(status, "no-such-method", "that cannot be done here")
        .hint(format!("{DOCUMENT} says what can"))
}

/// What is answered where there is nothing.
pub async fn nothing() -> impl IntoResponse {
    Problem::not_found("there is nothing here").hint(format!("{DOCUMENT} says what there is"))
}
