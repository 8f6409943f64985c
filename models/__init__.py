"""SQLAlchemy tables, one module per noun. Importing the package makes `Base.metadata` complete."""

import importlib
import pkgutil

from models.base import Base

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Base"]
