"""Parts of single programs, named after the program and what they do. May import `examples.common`."""
