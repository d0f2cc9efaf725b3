//! The documentation: links resolve, the book has every page, the reference is what the code says, and the tutorial shows
//! what the programs print.
//!
//! `INSTA_UPDATE=always cargo test --profile ci --test documentation` renews the pages of the command line and of exit codes, the
//! tables of settings and the schemas.
#![cfg(feature = "worker")]

mod command_line;
mod environment;
mod exit_codes;
mod files;
mod links;
mod settings;
mod tutorial;

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of a file in the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the files in a folder of the repository and in the folders below it, with paths relative to the repository.
fn files_in(folder: &str) -> Vec<String> {
    let mut files = vec![];
    for entry in fs::read_dir(in_repository(folder)).unwrap().map(Result::unwrap) {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_in(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

/// Asserts that a page is what the code gives, or writes it if that was requested.
fn assert_page(path: &str, page: &str) {
    let path = in_repository(path);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let different = committed.lines().zip(page.lines()).find(|(committed, current)| committed != current);
    assert!(
        committed == page,
        "{} is not current ({different:?}); help: INSTA_UPDATE=always cargo test --profile ci --test documentation",
        path.display()
    );
}
