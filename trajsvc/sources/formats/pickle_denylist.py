"""Names that no checkpoint needs and that would reach the system if a pickle's reader imported them.

Nothing is ever imported here (see ``inert_pickle``); a file that names one of these was made to do harm, and is refused as a whole.
"""

from __future__ import annotations

from typing import Final

from trajsvc.errors import UnsafeFile

_FORBIDDEN_MODULES: Final = frozenset(
    {
        "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "ssl", "importlib", "imp", "runpy", "pty",
        "ctypes", "_ctypes", "cffi", "pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
        "webbrowser", "code", "codeop", "commands", "multiprocessing", "concurrent", "asyncio", "threading",
        "_thread", "signal", "urllib", "urllib2", "http", "httplib", "requests", "ftplib", "smtplib", "telnetlib",
        "xmlrpc", "pdb", "bdb", "timeit", "cProfile", "profile", "trace", "doctest", "pip", "setuptools", "distutils",
        "ensurepip", "venv", "pkgutil", "zipimport", "gc", "inspect", "ast", "operator", "_operator", "tempfile",
        "_io", "io", "fileinput", "linecache",
    }
)  # fmt: skip
_HARMLESS_BUILTINS: Final = frozenset(
    {
        "set", "frozenset", "bytearray", "complex", "list", "dict", "tuple", "int", "float", "str", "bytes", "bool",
        "object", "slice", "range", "getattr", "unicode", "long", "type", "NoneType", "Ellipsis", "NotImplemented", "iter", "xrange",
        "reversed", "enumerate", "zip", "memoryview", "property", "Exception", "ValueError", "TypeError",
        "KeyError", "RuntimeError", "len", "sum", "min", "max", "abs", "round", "sorted",
    }
)  # fmt: skip
_HARMLESS: Final = frozenset(
    {
        ("_io", "BytesIO"), ("io", "BytesIO"), ("_io", "StringIO"), ("io", "StringIO"), ("operator", "itemgetter"),
        ("_operator", "itemgetter"), ("os", "stat_result"), ("os", "PathLike"), ("posix", "uname_result"), ("signal", "Signals"),
        ("inspect", "Signature"), ("inspect", "Parameter"), ("inspect", "_ParameterKind"), ("inspect", "_empty"),
        ("http", "HTTPStatus"), ("urllib.parse", "ParseResult"), ("urllib.parse", "SplitResult"),
    }
)  # fmt: skip
"""Names within those modules that hold data and run nothing when they are made."""
_FORBIDDEN_NAMES: Final = frozenset(
    {
        ("types", "FunctionType"), ("types", "LambdaType"), ("types", "CodeType"), ("types", "MethodType"),
        ("torch", "load"), ("torch.serialization", "load"), ("torch", "hub"), ("numpy", "load"), ("numpy", "memmap"),
        ("codecs", "open"), ("copyreg", "add_extension"),
    }
)  # fmt: skip
_FORBIDDEN_PREFIXES: Final = ("torch.hub", "torch.utils.cpp_extension", "torch.package", "torch.jit", "numpy.f2py")


def refuse_unsafe(module: str, name: str, path: str) -> None:
    """Raise UnsafeFile (``unsafe-pickle``) for a global that no checkpoint needs and that would reach the system."""
    top = module.partition(".")[0]
    builtin = top in ("builtins", "__builtin__") and name.partition(".")[0] not in _HARMLESS_BUILTINS
    dotted = any(part.startswith("__") for part in name.split(".")) and not module.startswith("numpy.random.")
    if (module, name) in _HARMLESS:
        return
    if (
        builtin
        or dotted
        or top in _FORBIDDEN_MODULES
        or (module, name) in _FORBIDDEN_NAMES
        or any(f"{module}.".startswith(f"{p}.") for p in _FORBIDDEN_PREFIXES)
    ):
        raise UnsafeFile(
            "unsafe-pickle",
            f"{path} names {module[:60]}.{name[:60]}, which could run code when it is loaded; nothing in it was run",
            hint="Do not load this file with torch.load. Ask its author for the weights alone, best as safetensors.",
            file=path,
        )
