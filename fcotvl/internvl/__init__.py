"""InternVL2 as published: architectures, chat templates and checkpoint conversion."""
