"""The same scripts in PyTorch, to be read and run beside their twins."""
