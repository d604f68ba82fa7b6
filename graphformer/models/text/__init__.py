"""Text models: decoders, encoders, classifiers and sequence to sequence."""
