//! The wing of `winsign`: sweep file → plan → launch → report.

mod at_once;
pub mod command;
pub mod evidence;
mod grouping;
pub mod kept;
pub mod launch;
pub mod plan;
pub mod report;
pub mod serve;
pub mod sweep;
pub mod yaml;
