"""Pages and figures of detectors."""
