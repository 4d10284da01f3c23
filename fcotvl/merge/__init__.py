"""The merge room: what each checkpoint is worth, what it shall weigh, and the weighted average."""
