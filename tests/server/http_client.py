"""A client of HTTP that says what it is told to, and reads answers strictly."""

import trio

#: Status, headers by their names in small letters, body.
Reply = tuple[int, dict[str, str], bytes]


class Client:
    """Sends bytes and reads answers, strictly."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._data = b""

    async def send(self, text: str | bytes) -> None:
        await self.stream.send_all(text if isinstance(text, bytes) else text.encode())

    async def get(self, path: str, method: str = "GET", extra: str = "") -> Reply:
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{extra}\r\n")
        return await self.reply(with_body=method != "HEAD")

    async def reply(self, *, with_body: bool = True) -> Reply:
        while b"\r\n\r\n" not in self._data:
            await self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        size = int(headers["content-length"]) if with_body else 0
        while len(self._data) < size:
            await self._more()
        body, self._data = self._data[:size], self._data[size:]
        return int(first.split()[1]), headers, body

    async def _more(self) -> None:
        data = await self.stream.receive_some(1 << 16)
        assert data, "the server ended the connection"
        self._data += data

    async def at_end(self) -> bool:
        return not self._data and not await self.stream.receive_some(1)
