"""The command line: each command translates its arguments to one public function."""
