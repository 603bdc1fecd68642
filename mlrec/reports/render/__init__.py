"""Conversion of tables to text for the terminal, Markdown, LaTeX, CSV, JSON and HTML."""
