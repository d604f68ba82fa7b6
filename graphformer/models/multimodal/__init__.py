"""Models of several modalities: image tokens in texts, and gated cross-attention to images."""
