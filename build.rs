//! Passes the path of libtorch to the worker, tests and benchmarks, so that they run without environment variables.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The build script of the trainer sets this if the feature `worker` is on; `winsign` links no libtorch.
    if let Ok(libtorch) = std::env::var("DEP_WINSIGN_TRAINER_LIBTORCH") {
        // `$ORIGIN/lib` comes first, so that a bundle on another machine finds its own copy.
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:{libtorch}");
    }
}
