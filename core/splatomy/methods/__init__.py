"""One folder per method; see the README.md inside each."""
