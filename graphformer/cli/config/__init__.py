"""Command-line arguments and YAML files."""
