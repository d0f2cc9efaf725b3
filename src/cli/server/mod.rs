//! Serves the report's page over HTTP while a study runs. It never writes. A request is answered with the latest data, and
//! triggers the next look at the store.

mod guard;
mod listener;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use winsign_report::page;

use listener::Impatient;

/// The minimum time between two looks at the store.
const EVERY: Duration = Duration::from_secs(2);
/// Looking takes at most this fraction (1 / LOOKING) of the time.
const LOOKING: u32 = 5;
/// A connection is closed when it is silent for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of a look: the page's data as JSON, or `None` if nothing has changed.
pub(crate) type Look = Result<Option<String>, String>;

struct Shared {
    name: String,
    found: Mutex<Found>,
    asked: Notify,
}

#[derive(Clone)]
struct Found {
    data: Arc<str>,
    /// The entity tag of the data.
    etag: Arc<str>,
    /// The error of the last look, if it failed; the data are older then.
    trouble: Option<String>,
}

impl Found {
    fn new(data: String) -> Found {
        let etag = format!("\"{}\"", &blake3::hash(data.as_bytes()).to_hex()[..32]);
        Found { data: data.into(), etag: etag.into(), trouble: None }
    }
}

/// Serves until it is dropped. `first` is the first data, `look` returns newer data.
pub(crate) async fn serve(
    listener: TcpListener,
    name: String,
    first: String,
    look: impl FnMut() -> Look + Send + 'static,
) -> std::io::Result<()> {
    let shared = Arc::new(Shared { name, found: Mutex::new(Found::new(first)), asked: Notify::new() });
    let refreshing = tokio::spawn(refresh(Arc::clone(&shared), look));
    let served = axum::serve(Impatient { listener, patience: PATIENCE }, router(shared)).await;
    refreshing.abort();
    served
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/data", get(data))
        .layer(middleware::from_fn(guard::check))
        .with_state(shared)
}

async fn refresh(shared: Arc<Shared>, mut look: impl FnMut() -> Look + Send + 'static) {
    loop {
        shared.asked.notified().await;
        let began = Instant::now();
        let looked = tokio::task::spawn_blocking(move || (look(), look)).await;
        let Ok((found, again)) = looked else { return };
        look = again;
        shared.note(found);
        tokio::time::sleep(EVERY.max(began.elapsed() * (LOOKING - 1))).await;
    }
}

impl Shared {
    fn note(&self, looked: Look) {
        let mut found = self.found.lock().expect("no thread panics with it");
        match looked {
            Ok(Some(data)) => *found = Found::new(data),
            Ok(None) => found.trouble = None,
            Err(trouble) => {
                if found.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("{trouble}; the page shows older data");
                }
                found.trouble = Some(trouble);
            }
        }
    }

    /// Returns the latest data, and triggers the next look.
    fn ask(&self) -> Found {
        self.asked.notify_one();
        self.found.lock().expect("no thread panics with it").clone()
    }
}

async fn front(State(shared): State<Arc<Shared>>) -> Response {
    let found = shared.ask();
    let made = tokio::task::spawn_blocking(move || page::live(&found.data, &shared.name)).await;
    match made {
        Ok(html) => ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn data(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let found = shared.ask();
    if let Some(trouble) = found.trouble {
        return (StatusCode::SERVICE_UNAVAILABLE, trouble).into_response();
    }
    let etag = found.etag.to_string();
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response();
    }
    let plain = [(CONTENT_TYPE, "application/json".to_string()), (ETAG, etag)];
    let accepts = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.split(',').any(|coding| coding.trim() == "gzip") {
        return (plain, found.data.to_string()).into_response();
    }
    let zipped = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(found.data.as_bytes()).and_then(|()| encoder.finish())
    });
    match zipped.await {
        Ok(Ok(bytes)) => (plain, [(CONTENT_ENCODING, "gzip")], Body::from(bytes)).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
