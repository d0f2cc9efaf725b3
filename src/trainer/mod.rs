//! The wing of `winsign-worker`: run directory → training → run directory.
