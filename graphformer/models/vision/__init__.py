"""Vision models: ViT, CNN with attention, MAE, captioning and CLIP."""
