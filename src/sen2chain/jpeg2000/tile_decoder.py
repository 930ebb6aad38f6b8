"""Windows of one tile of a JPEG 2000 codestream, decoded by OpenJPEG: only the code-blocks that a window touches."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain.errors import UnreadableError, escaped
from sen2chain.jpeg2000 import openjpeg

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

    from sen2chain.jpeg2000.codestream import Box
    from sen2chain.jpeg2000.openjpeg import OpenJpeg

_BUFFER = 1 << 20  # bytes that OpenJPEG asks for at once


class TileDecoder:
    """Decoder of one tile; use it as a context, in one thread.

    OpenJPEG reads the code with the first window. It keeps the code-blocks of a window until the next one, and decodes
    those of them that this one touches too only once. The interpreter's lock is released while it decodes.

    Parameters
    ----------
    library
        OpenJPEG.
    code
        The tile, as a codestream of its own.
    location
        The file, for messages.
    halvings
        How often the resolution is halved.

    Raises
    ------
    UnreadableError
        If OpenJPEG does not accept the header.
    """

    def __init__(self, library: OpenJpeg, code: bytearray, location: str, halvings: int = 0) -> None:
        self._api, self._location, self._halvings = library.api, location, halvings
        self._error = ""
        self._image = ctypes.POINTER(openjpeg.Image)()
        with ExitStack() as stack:
            self._stream = self._open_stream(code)
            stack.callback(self._api.opj_stream_destroy, self._stream)
            self._codec = self._check(self._api.opj_create_decompress(openjpeg.CODESTREAM))
            stack.callback(self._api.opj_destroy_codec, self._codec)
            self._handler = openjpeg.Message(self._remember)
            self._api.opj_set_error_handler(self._codec, self._handler, None)
            parameters = openjpeg.DecoderParameters()
            self._api.opj_set_default_decoder_parameters(ctypes.byref(parameters))
            self._check(self._api.opj_setup_decoder(self._codec, ctypes.byref(parameters)))
            # None of its own threads, whatever OPJ_NUM_THREADS says: the callers' keep the processors busy.
            self._check(self._api.opj_codec_set_threads(self._codec, 0))
            # Incomplete code is an error, not a picture with holes.
            self._check(self._api.opj_decoder_set_strict_mode(self._codec, 1))
            self._check(self._api.opj_read_header(self._stream, self._codec, ctypes.byref(self._image)))
            stack.callback(self._api.opj_image_destroy, self._image)
            if halvings:
                self._check(self._api.opj_set_decoded_resolution_factor(self._codec, halvings))
            self._stack = stack.pop_all()

    def read(self, box: Box, out: npt.NDArray[np.generic]) -> None:
        """Decode a window.

        Parameters
        ----------
        box
            Its pixels, in those of the whole image at full resolution.
        out
            (rows, columns) to write to; those of the window, divided by two (rounded up) for each halving.

        Raises
        ------
        UnreadableError
            If it cannot be decoded.
        """
        area = box.left, box.top, box.right, box.bottom
        self._check(self._api.opj_set_decode_area(self._codec, self._image, *area))
        self._check(self._api.opj_decode(self._codec, self._stream, self._image))
        component = self._image.contents.comps[0]
        # What is read from memory is what OpenJPEG says that it wrote there, and nothing else.
        if (component.h, component.w) != out.shape or not component.data:
            raise UnreadableError(f"{self._location} cannot be read: OpenJPEG decoded another window than asked for.")
        out[...] = np.ctypeslib.as_array(component.data, out.shape)

    def close(self) -> None:
        """Free the decoder."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, result: int | None) -> int:
        """Raise an error if a call of OpenJPEG failed."""
        if not result:
            said = self._error or "OpenJPEG gives no reason"
            raise UnreadableError(f"{self._location} cannot be read: {said}.")
        return result

    def _remember(self, text: bytes, _: object) -> None:
        """Keep the first message, which names the cause; later ones are consequences."""
        self._error = self._error or escaped(text.decode("utf-8", "replace").strip().rstrip("."))

    def _open_stream(self, code: bytearray) -> int:
        """Make a stream of OpenJPEG that reads from memory."""
        size, at = len(code), 0
        buffer = (ctypes.c_char * size).from_buffer(code)
        begin = ctypes.addressof(buffer)

        def read(target: int, length: int, _: object) -> int:
            nonlocal at
            count = min(length, size - at)
            if count <= 0:
                return openjpeg.END_OF_STREAM
            ctypes.memmove(target, begin + at, count)
            at += count
            return count

        def skip(length: int, _: object) -> int:
            nonlocal at
            if not 0 <= length <= size - at:
                return -1
            at += length
            return length

        def seek(position: int, _: object) -> int:
            nonlocal at
            if not 0 <= position <= size:
                return 0
            at = position
            return 1

        # OpenJPEG calls these, and they read the buffer, as long as the decoder lives.
        self._functions = openjpeg.Read(read), openjpeg.Skip(skip), openjpeg.Seek(seek), buffer
        stream = self._check(self._api.opj_stream_create(_BUFFER, 1))
        self._api.opj_stream_set_read_function(stream, self._functions[0])
        self._api.opj_stream_set_skip_function(stream, self._functions[1])
        self._api.opj_stream_set_seek_function(stream, self._functions[2])
        self._api.opj_stream_set_user_data_length(stream, size)
        return stream
