"""Image data sets, captions and augmentation."""
