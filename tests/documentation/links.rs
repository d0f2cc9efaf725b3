//! Links of all pages, and the table of contents of the book.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{files_in, in_repository};

/// The table of contents of the book.
const SUMMARY: &str = "docs/SUMMARY.md";
/// Pages that are shown by the page with the same name in HTML.
const BESIDE_HTML: [&str; 1] = ["docs/quickstart/report.md"];

/// What links of other pages need to know of a page, and the links of the page itself.
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<String>,
}

#[test]
fn relative_links_resolve() {
    let pages: BTreeMap<String, Page> = pages().into_iter().map(|path| (path.clone(), read(&path))).collect();
    let in_book = |path: &str| path.starts_with("docs/");
    let mut broken = vec![];
    for (path, page) in &pages {
        for link in page.links.iter().filter(|link| !is_external(link)) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { resolve(path, file) };
            if !in_repository(&target).exists() {
                broken.push(format!("{path}: {link}: {target} does not exist"));
            } else if in_book(path) && !in_book(&target) {
                broken.push(format!("{path}: {link} leaves docs/, so the book cannot have it"));
            } else if !anchor.is_empty() && pages.get(&target).is_some_and(|page| !page.anchors.contains(anchor)) {
                broken.push(format!("{path}: {link}: {target} has no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn summary_has_every_page_once() {
    let links = read(SUMMARY).links;
    let listed: BTreeSet<String> = links.iter().map(|link| resolve(SUMMARY, link)).collect();
    assert_eq!(listed.len(), links.len(), "a page is listed twice");
    let pages = pages().into_iter().filter(|path| path.starts_with("docs/") && path != SUMMARY);
    assert_eq!(listed, pages.filter(|path| !BESIDE_HTML.contains(&path.as_str())).collect());
}

#[test]
fn pages_named_in_files_of_the_repository_exist() {
    let files = ["src", "tests", "benches", "sweeps", "launch", "docs"].into_iter().flat_map(files_in);
    let files = files.chain(root_pages()).filter(|path| !path.starts_with("tests/snapshots"));
    for path in files {
        // Not texts: images, and fixtures of data sets.
        let Ok(text) = fs::read_to_string(in_repository(&path)) else { continue };
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "/._-".contains(letter)));
        for page in words.filter(|word| word.starts_with("docs/") && word.ends_with(".md")) {
            assert!(in_repository(page).exists(), "{path} names {page}");
        }
    }
}

/// Returns the paths of all pages that are written for readers.
fn pages() -> Vec<String> {
    let mut pages = root_pages();
    pages.extend(["docs", "results", "tests/golden"].into_iter().flat_map(files_in));
    pages.retain(|path| path.ends_with(".md"));
    pages
}

fn root_pages() -> Vec<String> {
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_string).to_vec()
}

fn read(path: &str) -> Page {
    let text = fs::read_to_string(in_repository(path)).unwrap();
    let mut page = Page { anchors: BTreeSet::new(), links: vec![] };
    let mut heading: Option<String> = None;
    let mut uses: HashMap<String, usize> = HashMap::new();
    for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push(dest_url.to_string())
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) if heading.is_some() => heading.as_mut().unwrap().push_str(&text),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap());
                let earlier = uses.entry(anchor.clone()).or_default();
                page.anchors.insert(if *earlier == 0 { anchor } else { format!("{anchor}-{earlier}") });
                *earlier += 1;
            }
            _ => {}
        }
    }
    page
}

/// Returns the anchor that code hosts and the book give to a heading.
fn anchor(heading: &str) -> String {
    let letter = |letter: char| match letter {
        ' ' => Some('-'),
        _ => (letter.is_alphanumeric() || "-_".contains(letter)).then_some(letter),
    };
    heading.to_lowercase().chars().filter_map(letter).collect()
}

fn is_external(link: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme))
}

/// Returns the path in the repository of a link on a page.
fn resolve(page: &str, link: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(page).parent().unwrap().join(link).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{page}: {link} leaves the repository"),
            part => path.push(part),
        }
    }
    path.to_str().unwrap().to_string()
}
