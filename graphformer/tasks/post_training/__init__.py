"""Post-training: instruction tuning, reward models, preference and policy optimisation."""
