"""From an appliance's declaration to its golden image: OS tree, disk, formats, record."""
