"""pargrad's tests."""
