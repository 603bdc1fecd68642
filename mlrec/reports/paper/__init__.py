"""The tables and figures of the paper: published rows, and the user's runs next to them."""
