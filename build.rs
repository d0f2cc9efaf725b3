//! Tells the worker, and the tests and measurements that train, where libtorch lies, so that no environment variable is needed
//! to run them.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by the trainer where the feature `worker` is on; `winsign` links no libtorch.
    if let Ok(libtorch) = std::env::var("DEP_WINSIGN_TRAINER_LIBTORCH") {
        // `$ORIGIN/lib` comes first, so that a bundle carried to another machine finds its own copy.
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:{libtorch}");
    }
}
