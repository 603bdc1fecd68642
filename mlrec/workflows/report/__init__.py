"""Reports on finished runs: tables, comparisons, figures and HTML pages."""
