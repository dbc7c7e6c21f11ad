"""What people look at: run directories read back, figures, pages and flame graphs."""
