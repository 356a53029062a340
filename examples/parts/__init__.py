"""Parts of programs, named after the program: `NAME_config.py` has its settings, others what they do.

They may import `examples.common`, and no program.
"""
