"""Workflows: one public function per command, which combines other parts of the package."""
