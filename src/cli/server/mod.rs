//! Serves the report's page over HTTP while a study runs, without writing anything. A request is answered with the latest
//! data, and triggers the next poll of the store.

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

use listener::TimeoutListener;

/// The minimum time between two polls of the store.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// The inverse of the largest fraction of the time that polling takes.
const POLL_SHARE: u32 = 5;
/// The time after which a silent connection is closed.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of a poll: the page's data as JSON, or `None` if nothing has changed.
pub(crate) type Update = Result<Option<String>, String>;

struct Shared {
    name: String,
    content: Mutex<Content>,
    /// Notified by each request.
    requests: Notify,
}

/// The latest content of the page.
#[derive(Clone)]
struct Content {
    data: Arc<str>,
    /// The entity tag of the data.
    etag: Arc<str>,
    /// The error of the last poll, if it failed; the data are older then.
    error: Option<String>,
}

impl Content {
    fn new(data: String) -> Content {
        let etag = format!("\"{}\"", &blake3::hash(data.as_bytes()).to_hex()[..32]);
        Content { data: data.into(), etag: etag.into(), error: None }
    }
}

/// Serves the page until the future is dropped. `first` are the first data, `poll` returns newer data.
pub(crate) async fn serve(
    listener: TcpListener,
    name: String,
    first: String,
    poll: impl FnMut() -> Update + Send + 'static,
) -> std::io::Result<()> {
    let shared = Arc::new(Shared { name, content: Mutex::new(Content::new(first)), requests: Notify::new() });
    let refreshing = tokio::spawn(refresh(Arc::clone(&shared), poll));
    let served = axum::serve(TimeoutListener { listener, timeout: CONNECTION_TIMEOUT }, router(shared)).await;
    refreshing.abort();
    served
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(get_page))
        .route("/data", get(get_data))
        .layer(middleware::from_fn(guard::check))
        .with_state(shared)
}

/// Polls the store after each request.
async fn refresh(shared: Arc<Shared>, mut poll: impl FnMut() -> Update + Send + 'static) {
    loop {
        shared.requests.notified().await;
        let began = Instant::now();
        let polled = tokio::task::spawn_blocking(move || (poll(), poll)).await;
        let Ok((update, returned)) = polled else { return };
        poll = returned;
        shared.apply(update);
        tokio::time::sleep(MIN_INTERVAL.max(began.elapsed() * (POLL_SHARE - 1))).await;
    }
}

impl Shared {
    fn apply(&self, update: Update) {
        let mut content = self.content.lock().expect("no thread panics while it holds the lock");
        match update {
            Ok(Some(data)) => *content = Content::new(data),
            Ok(None) => content.error = None,
            Err(error) => {
                if content.error.as_ref() != Some(&error) {
                    tracing::warn!("{error}; the page shows older data");
                }
                content.error = Some(error);
            }
        }
    }

    /// Returns the latest content, and triggers the next poll.
    fn request(&self) -> Content {
        self.requests.notify_one();
        self.content.lock().expect("no thread panics while it holds the lock").clone()
    }
}

async fn get_page(State(shared): State<Arc<Shared>>) -> Response {
    let content = shared.request();
    let made = tokio::task::spawn_blocking(move || page::live(&content.data, &shared.name)).await;
    match made {
        Ok(html) => ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn get_data(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let content = shared.request();
    if let Some(error) = content.error {
        return (StatusCode::SERVICE_UNAVAILABLE, error).into_response();
    }
    let etag = content.etag.to_string();
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response();
    }
    let plain = [(CONTENT_TYPE, "application/json".to_string()), (ETAG, etag)];
    let accepts = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.split(',').any(|coding| coding.trim() == "gzip") {
        return (plain, content.data.to_string()).into_response();
    }
    let zipped = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content.data.as_bytes()).and_then(|()| encoder.finish())
    });
    match zipped.await {
        Ok(Ok(bytes)) => (plain, [(CONTENT_ENCODING, "gzip")], Body::from(bytes)).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
