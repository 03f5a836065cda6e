"""What the project does, shown on real traffic."""
