"""The only package that imports Ray: shells around plain classes, and the driver."""
