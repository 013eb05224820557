"""The commands of `kdc`: each parses, calls one public function and prints."""
