//! The wing of `winsign`: sweep file → plan → launch → report.

pub mod command;
pub mod kept;
pub mod launch;
pub mod plan;
pub mod report;
pub mod sweep;
pub mod yaml;
