"""The Open Inference Protocol, version 2 ("KServe V2"), which Triton and others speak."""
