"""Speed tables: programs that measure, print what they measured and keep it. Not part of the package."""
