"""Several seeds and folds in parallel processes."""
