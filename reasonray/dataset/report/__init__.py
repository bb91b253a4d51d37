"""The page about an output, for a person who wants to see what a run made."""
