"""The evaluation page and its charts."""
