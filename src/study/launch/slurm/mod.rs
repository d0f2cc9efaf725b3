//! Runs as jobs of Slurm.

pub mod profile;
