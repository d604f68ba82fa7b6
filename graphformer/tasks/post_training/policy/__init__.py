"""Parts of `PolicyOptimization`: settings, state, advantages and losses, critic, metrics."""
