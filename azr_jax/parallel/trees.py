"""The name of what JAX calls a pytree."""

from __future__ import annotations

from typing import Any, TypeAlias

# Nested containers of arrays, or of what stands in an array's place: a sharding, a shape, a name. JAX looks at them
# when a program is traced; no type checker knows their shape.
PyTree: TypeAlias = Any
