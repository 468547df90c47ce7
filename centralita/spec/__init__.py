"""What people declare: appliances and tenants, typed, with errors that name file, line, field and fix."""
