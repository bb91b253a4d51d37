"""The editor behind the API that people already use, on Ray Serve: guard, ingress, editors."""
