"""Where clones run, and how a host is spoken to: libvirt and xl, here or over SSH."""
