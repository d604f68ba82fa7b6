"""Audio data sets: spectrograms whose patches are nodes."""
