"""One public function a command: the parts put together."""
