"""PDFs made without a library, so that tests know exactly what is in them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

FONT = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"


def pdf(*texts: str) -> bytes:
    """A PDF with a page for each of these texts."""
    return of_streams([f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() for text in texts])


def bomb(size_bytes: int) -> bytes:
    """A PDF of one page whose content is a thousand times larger than the file."""
    return of_streams([zlib.compress(b" " * size_bytes)], "/Filter /FlateDecode")


def of_streams(streams: Sequence[bytes], also: str = "") -> bytes:
    """A PDF with a page for each of these content streams; `also` goes into their dictionaries."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(streams)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>".encode(),
    ]
    for number, stream in enumerate(streams):
        objects += [
            f"<< /Type /Page /Parent 2 0 R /Contents {4 + 2 * number} 0 R "
            f"/MediaBox [0 0 612 792] /Resources << /Font {FONT} >> >>".encode(),
            b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(stream), also.encode(), stream),
        ]
    written = b"%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, 1):
        places.append(b"%010d 00000 n \n" % len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, b"".join(places))
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, len(written))
    return written + table + trailer
