"""Teacher, student, compressors and how they answer; importing the room loads no torch."""
