"""What every other package builds on: configuration, records, prompts, answers, registries. Free of torch."""
