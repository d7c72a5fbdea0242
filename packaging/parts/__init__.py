"""The parts of `packaging/build`: one file for each kind of package."""
