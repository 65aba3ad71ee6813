"""Toolchains: converters that pin other versions than ours, each in a locked virtual environment of its own.

- ``environment``: where they are, whether they are whole, and how they are installed;
- ``process``: one job in such an environment, as a subprocess;
- ``litert`` and ``executorch``: their jobs, typed;
- ``inside/``: what runs there. It imports what is there and itself, never us; we never import it;
- ``locks/``: the exact packages of each.

By hand: ``python -m edgewise_compiler.toolchains install litert``.
"""
