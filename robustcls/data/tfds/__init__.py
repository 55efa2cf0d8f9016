"""Sets of tensorflow-datasets, and the registries that mirror some."""
