"""Reports of finished runs: tables, comparisons, figures, HTML page."""
