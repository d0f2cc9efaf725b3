//! Ranks: the processes that share one run. A run has one for now, so there is nothing to exchange yet; gradients,
//! evaluation batches and points of a path are what will be.
