"""What a monitor does with the standard streams of its container: log, terminal, standard input.

The log is a file of frames, each a header of 16 bytes (time in nanoseconds since the epoch, 8 bytes;
stream, 1 byte: 1 for stdout, 2 for stderr; 3 unused; length, 4 bytes; little-endian) and the bytes as
they came. The payload writes to FIFOs that both ends hold open for reading and writing: it outlives
the monitor, and a next monitor reads on.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime._inside.audience import Audience
    from pycontainer.runtime._inside.rotation import Rotation

__all__ = ["HEADER_SIZE", "Streams"]

HEADER_SIZE = 16
_CHUNK = 1 << 16
_MOST_INPUT = 1 << 20
_TIOCSWINSZ = 0x5414
_TIOCGPTPEER = 0x5441
_MOST_CELLS = 0xFFFF  # of a row or column, in struct winsize


class Streams:
    """The monitor's ends of a container's standard streams."""

    def __init__(self) -> None:
        self._log = -1
        self._rotation: Rotation | None = None
        self._audience: Audience | None = None
        self._payload: list[int] = []
        self._sources: dict[int, int] = {}  # descriptor to read -> number of the stream
        self._terminal = self._slave = -1
        self._terminal_out = -1
        self._stdin = -1
        self._input = b""

    # --- opening -----------------------------------------------------------------------------

    def open(
        self,
        stdio: list[int],
        *,
        log: bool,
        tty: bool,
        live: bool = False,
        limit: tuple[int, ...] = (),
        mend: bool = False,
    ) -> list[int]:
        """Decide what the payload gets as 0, 1 and 2.

        Args:
            stdio: The owner's descriptors; closed here when no longer needed.
            log: Keep a log of stdout and stderr; the owner's then are not used.
            live: Keep no log, but let those who are attached have stdout and stderr.
            limit: Bytes of a file of the log, and how many files there are; empty for no limit.
            tty: The payload gets a terminal made inside, which `take_terminal` connects.
            mend: Another monitor may have been killed while it wrote to the log.
        """
        if log:
            self._open_log(limit, mend=mend)
        elif live:
            self._expect_audience()
        if tty:
            self._stdin, self._terminal_out = stdio[0], stdio[1]
            self._payload = stdio[2:]
            return []
        if log or live:
            for fd in stdio[1:]:
                os.close(fd)
            stdio = [stdio[0], self._fifo("out.fifo", 1), self._fifo("err.fifo", 2)]
        self._payload = stdio
        return stdio

    def take_over(self, *, log: bool, live: bool, limit: tuple[int, ...]) -> None:
        """Go on with the log of a container whose monitor was killed; a terminal went with that."""
        if log or live:
            for name, stream in (("out.fifo", 1), ("err.fifo", 2)):
                try:
                    reader = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                self._sources[reader] = stream
        if log:
            self._open_log(limit, mend=True)
        elif live:
            self._expect_audience()

    def _expect_audience(self) -> None:
        from pycontainer.runtime._inside.audience import Audience  # few containers have no log

        self._audience = Audience()

    def gather_audience(self) -> None:
        """Let those who are attached now have what comes from here on."""
        if self._audience is not None:
            self._audience.gather()

    def _open_log(self, limit: tuple[int, ...], *, mend: bool) -> None:
        if limit:
            from pycontainer.runtime._inside.rotation import Rotation  # few containers need it

            self._rotation = Rotation(limit[0], limit[1])
            self._log = self._rotation.open()
        else:
            self._log = os.open("log", os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if mend:
            _cut_off(self._log)

    def _fifo(self, name: str, stream: int) -> int:
        try:
            os.mkfifo(name, 0o600)
        except FileExistsError:  # that of the run before
            pass
        # Two open file descriptions: the payload's stdout must not become non-blocking with ours.
        reader = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._sources[reader] = stream
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)

    def close_payload_side(self) -> None:
        """Close what only the payload is to hold, so that readers see its end."""
        for fd in self._payload:
            os.close(fd)
        self._payload = []
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        if null > 2:
            os.close(null)

    def take_terminal(self, console: _socket.socket) -> None:
        """Receive the terminal's master side from init; nothing comes if init failed."""
        _, ancillary, _, _ = console.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        console.close()
        for _, _, raw in ancillary:
            self._terminal = int.from_bytes(raw[:4], "little")
            os.set_blocking(self._terminal, False)
            self._sources[self._terminal] = 1
            # Held open: an init such as systemd closes its terminal and opens it again to write.
            flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
            self._slave = fcntl.ioctl(self._terminal, _TIOCGPTPEER, flags)

    def register(self, poll: select.poll) -> None:
        """Have the sources polled."""
        self.gather_audience()
        for fd in self._sources:
            poll.register(fd, select.POLLIN)
        if self._terminal >= 0 and self._stdin >= 0:
            poll.register(self._stdin, select.POLLIN)

    # --- working -----------------------------------------------------------------------------

    def handle(self, fd: int, poll: select.poll) -> None:
        """Move what one ready descriptor has or takes."""
        if fd == self._stdin:
            self._read_input(poll)
            return
        if self._audience is not None and self._audience.handles(fd, poll):
            self._listen_to_sources(poll)
            return
        if fd == self._terminal and self._input:
            self._feed_terminal(poll)
        if fd in self._sources:
            data = _read(fd)
            if data:
                self._emit(self._sources[fd], data, poll)
                if self._audience is not None and self._audience.is_behind:
                    self._listen_to_sources(poll)
            elif data is not None:
                self._drop(fd, poll)

    def _listen_to_sources(self, poll: select.poll) -> None:
        """Take more from the payload, or let it wait while somebody who is attached is behind."""
        assert self._audience is not None
        for fd in self._sources:
            poll.modify(fd, 0 if self._audience.is_behind else select.POLLIN)

    def drain(self, poll: select.poll) -> None:
        """Move what is left after the payload's end."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1
        for fd in list(self._sources):
            while data := _read(fd):
                self._emit(self._sources[fd], data, poll)
            self._drop(fd, poll)
        if self._audience is not None:
            self._audience.finish(poll)
        if self._terminal_out >= 0:
            os.close(self._terminal_out)
            self._terminal_out = -1

    def close(self, poll: select.poll) -> None:
        """Give all descriptors back, after `drain` or a start that failed."""
        if self._audience is not None:
            self._audience.close(poll)
        ends = (self._log, self._terminal, self._slave, self._terminal_out, self._stdin)
        for fd in {*self._sources, *self._payload, *(fd for fd in ends if fd >= 0)}:
            try:
                poll.unregister(fd)
            except KeyError:
                pass
            os.close(fd)

    def resize(self, rows: object, columns: object) -> None:
        """Set the terminal's size."""
        if self._terminal >= 0 and isinstance(rows, int) and isinstance(columns, int):
            rows, columns = (min(max(n, 0), _MOST_CELLS) for n in (rows, columns))
            size = rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)
            fcntl.ioctl(self._terminal, _TIOCSWINSZ, size)

    def _emit(self, stream: int, data: bytes, poll: select.poll) -> None:
        head = time.time_ns().to_bytes(8, "little") + bytes((stream, 0, 0, 0))
        if self._audience is not None:
            self._audience.send(head + len(data).to_bytes(4, "little") + data, poll)
        elif self._log >= 0:
            size = len(data) if self._rotation is None else self._rotation.most_of_a_frame
            for at in range(0, len(data), size):
                part = data[at : at + size]
                self._append(head + len(part).to_bytes(4, "little") + part)
        elif self._terminal_out >= 0:
            try:
                _write(self._terminal_out, data)
            except BrokenPipeError:  # the owner reads no more; the payload goes on
                os.close(self._terminal_out)
                self._terminal_out = -1

    def _append(self, frame: bytes) -> None:
        """Write a whole frame to the log, or nothing: a full disk costs output, not the container."""
        if self._rotation is not None:
            self._log = self._rotation.room(self._log, len(frame))
        end = os.fstat(self._log).st_size
        try:
            _write(self._log, frame)
        except OSError:
            os.ftruncate(self._log, end)

    def shorten_log(self) -> None:
        """Make room on a full disk; readers pass over a frame that is cut off."""
        if self._log >= 0:
            os.ftruncate(self._log, max(0, os.fstat(self._log).st_size - _CHUNK))

    def _read_input(self, poll: select.poll) -> None:
        data = os.read(self._stdin, 4096)
        poll.unregister(self._stdin)  # until the terminal has taken this
        if not data:
            os.close(self._stdin)
            self._stdin = -1
        self._input += data or b"\x04"  # end of input, as a user types it
        self._feed_terminal(poll)

    def type(self, data: bytes, poll: select.poll) -> None:
        """Write to the terminal for somebody who is attached; more than it takes is lost in time."""
        if self._terminal in self._sources and len(self._input) < _MOST_INPUT:
            self._input += data
            self._feed_terminal(poll)

    def _feed_terminal(self, poll: select.poll) -> None:
        """Write what the terminal takes; never wait, or a payload busy with output would lock up."""
        try:
            self._input = self._input[os.write(self._terminal, self._input) :]
        except BlockingIOError:
            pass
        except OSError:  # no process has the terminal any more
            self._input = b""
        if self._terminal not in self._sources:  # all have closed it: nobody will read this
            self._input = b""
        if self._input:
            poll.modify(self._terminal, select.POLLIN | select.POLLOUT)
            return
        if self._terminal in self._sources:
            poll.modify(self._terminal, select.POLLIN)
        if self._stdin >= 0:
            poll.register(self._stdin, select.POLLIN)

    def _drop(self, fd: int, poll: select.poll) -> None:
        poll.unregister(fd)
        del self._sources[fd]
        if fd != self._terminal:
            os.close(fd)


def _cut_off(log: int) -> None:
    """Remove a frame at the end of a log that is not whole; what is appended could not be told from it."""
    size, at = os.fstat(log).st_size, 0
    while at < size:
        header = os.pread(log, HEADER_SIZE, at)
        end = at + HEADER_SIZE + int.from_bytes(header[12:], "little")
        if len(header) < HEADER_SIZE or end > size:
            os.ftruncate(log, at)
            return
        at = end


def _read(fd: int) -> bytes | None:
    """Some bytes; empty at the end; None when there are none now."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
    except OSError:  # EIO: the last process has closed the terminal
        return b""


def _write(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, data[done:])
