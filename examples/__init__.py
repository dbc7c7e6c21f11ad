"""Short scripts to start from; README.md has them in order."""
