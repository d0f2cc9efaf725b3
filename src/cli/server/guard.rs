//! Access control: only requests to read that name this machine are answered.

use std::fs;
use std::net::IpAddr;
use std::sync::OnceLock;

use axum::extract::Request;
use axum::http::header::{ALLOW, HOST};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use winsign_core::owner;

/// The headers of every response: other sites must not embed it, and it must not be stored.
const HEADERS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("content-security-policy", "frame-ancestors 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// Passes on read requests that cannot come from the page of another site.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(request: &Request) -> Option<Response> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let named = request.uri().authority().map(|authority| authority.as_str());
    if !host.is_some_and(is_ours) || !named.is_none_or(is_ours) {
        let message = "winsign serve accepts only localhost, IP addresses and the name of this machine\n";
        return Some((StatusCode::FORBIDDEN, message).into_response());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], "winsign serve is read-only\n").into_response(),
        );
    }
    None
}

/// Returns true if a host name belongs to this machine: an address, `localhost` or one of the machine's names. Other names
/// are refused, since a site can make its own name resolve to this machine (DNS rebinding).
fn is_ours(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // An IPv6 address has colons of its own, within brackets.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    port.is_none_or(|port| port.parse::<u16>().is_ok())
        && (name.eq_ignore_ascii_case("localhost")
            || own_names().iter().any(|own| name.eq_ignore_ascii_case(own))
            || address.parse::<IpAddr>().is_ok())
}

/// Returns the names of this machine: its host name, alone and with each search domain of the resolver, and its aliases in
/// the table of hosts.
fn own_names() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    NAMES.get_or_init(|| names(&owner::host(), &read("/etc/resolv.conf"), &read("/etc/hosts")))
}

fn names(host: &str, resolver: &str, hosts: &str) -> Vec<String> {
    let words =
        |line: &str| line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_string).collect();
    let domains = resolver
        .lines()
        .map(words)
        .filter(|words: &Vec<String>| words.first().is_some_and(|keyword| keyword == "search" || keyword == "domain"));
    let in_domains = domains.flat_map(|words| words.into_iter().skip(1)).map(|domain| format!("{host}.{domain}"));
    let lines = hosts.lines().map(words).filter(|words: &Vec<String>| words.iter().skip(1).any(|name| name == host));
    let aliases = lines.flat_map(|words| words.into_iter().skip(1));
    [host.to_string()].into_iter().chain(in_domains).chain(aliases).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_include_domains_and_aliases() {
        let resolver = "# search nowhere.example\nsearch cluster.example site.example # ours\nnameserver 10.0.0.1\n";
        let hosts = "127.0.0.1 localhost\n10.0.0.7 node1.inner.example node1\n10.0.0.8 node2.inner.example node2\n";
        let expected = ["node1", "node1.cluster.example", "node1.site.example", "node1.inner.example", "node1"];
        assert_eq!(names("node1", resolver, hosts), expected);
        assert_eq!(names("node1", "", ""), ["node1"]);
    }

    #[test]
    fn host_name_of_another_machine_is_refused() {
        let own = format!("{}:8765", owner::host());
        for host in ["localhost", "localhost:8765", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:8765", "10.1.2.3", &own] {
            assert!(is_ours(host), "{host}");
        }
        let others = [
            "",
            "evil.example",
            "evil.example:8765",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8765",
            "localhost:x",
            "[::1",
        ];
        for host in others {
            assert!(!is_ours(host), "{host}");
        }
    }
}
