"""Reports on training runs: tables, plots and HTML pages."""
