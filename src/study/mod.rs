//! The wing of `winsign`: sweep file → plan → launch → report.

pub mod plan;
pub mod report;
pub mod sweep;
