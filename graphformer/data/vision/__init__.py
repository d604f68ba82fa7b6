"""Image data sets and augmentation."""
