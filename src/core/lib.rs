//! Runs, their identities and their directories on disk; leases; randomness.
//!
//! All other crates depend on this one, and it depends on none of them. It knows nothing of YAML, Slurm or torch.

#![forbid(unsafe_code)]

#[macro_use]
mod words;

mod architecture;
pub mod attempt;
pub mod clean;
pub mod dataset;
pub mod diagnostic;
pub mod directory;
pub mod disk;
pub mod error;
mod exclusive;
pub mod exit;
pub mod files;
pub mod grouping;
pub mod identity;
pub mod inherit;
pub mod lease;
pub mod merge;
pub mod owner;
pub mod parallel;
pub mod random;
pub mod results;
pub mod settings;
pub mod tensors;
pub mod text;
pub mod units;

pub use attempt::Attempt;
pub use diagnostic::Diagnostic;
pub use directory::{RunDirectory, State, Store};
pub use error::Error;
pub use identity::{Run, RunId};

/// Fails to compile unless a registry, a list of pairs, has one line for each variant of an enum, in the same order.
#[macro_export]
macro_rules! assert_complete {
    ($registry:ident, $names:ident) => {
        const _: () = {
            let names = <$names as strum::VariantArray>::VARIANTS;
            assert!(
                $registry.len() == names.len(),
                concat!(stringify!($registry), " needs one line for each variant of ", stringify!($names))
            );
            let mut index = 0;
            while index < names.len() {
                assert!(
                    $registry[index].0 as usize == index,
                    concat!(stringify!($registry), " needs the order of ", stringify!($names))
                );
                index += 1;
            }
        };
    };
}
