"""Data of post-training: conversations, preferences and prompts, written by chat templates."""
