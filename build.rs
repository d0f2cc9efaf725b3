//! Tells the worker where libtorch lies, so that no environment variable is needed to run it, and compiles the few lines
//! of C++ that reach what tch does not.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys when the `worker` feature is on; without it nothing needs libtorch.
    #[cfg(feature = "worker")]
    worker(&std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys has found libtorch"));
}

#[cfg(feature = "worker")]
fn worker(libtorch: &str) {
    const SOURCE: &str = "src/trainer/device/libtorch.cpp";
    // `$ORIGIN/lib` comes first, so that a bundle carried to another machine finds its own copy.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:{libtorch}");

    println!("cargo:rerun-if-changed={SOURCE}");
    let include = std::env::var("LIBTORCH_INCLUDE").map_or_else(
        |_| std::path::Path::new(libtorch).join("../include"),
        |folder| format!("{folder}/include").into(),
    );
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_string());
    let out = std::env::var("OUT_DIR").expect("set by cargo");
    cc::Build::new()
        .cpp(true)
        .cargo_metadata(false)
        .warnings(false)
        .include(include)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file(SOURCE)
        .compile("winsign_libtorch");
    // Not as a library of the package, which would be one of `winsign` too: whoever does not call it does not get it.
    println!("cargo:rustc-link-arg={out}/libwinsign_libtorch.a");
}
