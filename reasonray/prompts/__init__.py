"""The prompts as versioned text files, and the one place where replies are parsed."""
