//! Tells the worker where libtorch lies, so that no environment variable is needed to run it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys when the `worker` feature is on; without it nothing needs libtorch.
    let Ok(libtorch) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    // `$ORIGIN/lib` comes first, so that a bundle carried to another machine finds its own copy.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:{libtorch}");
}
