"""Training of the tiny teacher from random weights on renders."""
