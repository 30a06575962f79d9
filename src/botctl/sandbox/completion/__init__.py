"""An emulator of an OpenAI-compatible completion API with a deterministic, memoryless model."""
