"""Data of several modalities: images with questions or captions, their codes and latents."""
