"""The contract that every detector keeps."""
