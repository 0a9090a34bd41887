"""The pages of the console, one noun per file."""
