"""From a golden image to a tenant's machine: identity, rendering, injection."""
