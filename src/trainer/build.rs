//! Compiles the C++ functions that tch lacks, and passes the path of libtorch to dependent crates.

use std::path::{Path, PathBuf};

const SOURCES: [&str; 2] = ["device/libtorch.cpp", "device/activations.cpp"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    let libtorch = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys has found libtorch");
    println!("cargo:libtorch={libtorch}");
    // The tests of this crate need this path.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}");
    let include: PathBuf = std::env::var("LIBTORCH_INCLUDE")
        .map_or_else(|_| Path::new(&libtorch).join("../include"), |folder| Path::new(&folder).join("include"));
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_string());
    cc::Build::new()
        .cpp(true)
        .warnings(false)
        .include(include)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files(SOURCES)
        .compile("winsign_libtorch");
}
