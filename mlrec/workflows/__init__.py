"""One public function per command that combines the parts of the package."""
