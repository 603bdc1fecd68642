"""Workflows: one public function per command; each function combines other parts of the package."""
