"""Safe parsing of XML files from unknown sources.

Files that contain a DTD, are nested too deeply or exceed a size limit are rejected.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Protocol

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from mlrec.utils.errors import DataError
from mlrec.utils.files import read_bytes

MAX_DEPTH = 100


class XmlTarget(Protocol):
    """Interface for objects that receive XML elements, for example `xml.etree.ElementTree.TreeBuilder`."""

    def start(self, tag: str, attrs: dict[str, str], /) -> Any:
        """Receive the start of an element."""

    def end(self, tag: str, /) -> Any:
        """Receive the end of an element."""

    def data(self, data: str, /) -> Any:
        """Receive text."""

    def close(self) -> Any:
        """Return the result."""


class _Shallow:
    """Target for an XML parser that rejects files with deeply nested elements.

    Elements are passed to another target. Deep nesting could exhaust the stack.
    """

    def __init__(self, target: XmlTarget) -> None:
        self._target = target
        self._depth = 0
        self.data, self.close = target.data, target.close

    def start(self, tag: str, attrs: dict[str, str], /) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DataError(
                f"elements are nested deeper than {MAX_DEPTH}, the limit for annotations; check that this is an "
                "annotation file"
            )
        return self._target.start(tag, attrs)

    def end(self, tag: str, /) -> Any:
        self._depth -= 1
        return self._target.end(tag)


def parse_xml(path: Path, where: str, target: XmlTarget, max_bytes: int) -> Any:
    """Parse an XML file and return the result of `target.close`.

    Args:
        path: XML file.
        where: Name of the file in messages.
        target: Object that receives the elements, in the order of the file.
        max_bytes: Maximum size of the file.

    Raises:
        DataError: The file is empty, too large, not well-formed or nested too deeply, contains a DTD, or is rejected
            by `target`.
    """
    if path.is_file() and path.stat().st_size > max_bytes:
        raise DataError(
            f"{where}: the file is larger than {max_bytes:,} bytes, the limit for annotations; check that this is an "
            "annotation file"
        )
    content = read_bytes(path)
    if not content.strip():
        raise DataError(f"{where}: the file is empty; unpack the archive again")
    parser = DefusedXMLParser(target=_Shallow(target), forbid_dtd=True)
    try:
        parser.feed(content)
        return parser.close()
    except DefusedXmlException as error:
        raise DataError(
            f"{where}: the file contains a DOCTYPE, which is not allowed for security reasons; remove it"
        ) from error
    except ET.ParseError as error:
        line, column = error.position
        raise DataError(
            f"{where}: the XML is not well-formed at line {line}, column {column}; unpack the archive again"
        ) from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except (LookupError, ValueError) as error:
        raise DataError(f"{where}: the text encoding is unknown or invalid; save the file as UTF-8") from error
