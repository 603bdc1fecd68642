"""One public function per command, which combines the parts of the package."""
