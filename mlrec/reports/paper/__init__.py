"""Tables and figures of the paper, with the user's runs next to the published rows."""
