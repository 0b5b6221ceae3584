"""Faults of the connection: bodies cut, stretched, dripped or never sent."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from functools import lru_cache

from aiohttp import web

from sync.simulator.fault_registry import Params, Send, reply_fault, wire_fault
from sync.simulator.replies import Reply

_MIB = 1 << 20
_RESET_PAUSE_S = 0.05


@reply_fault(share=0.5)
def truncated_body(reply: Reply, params: Params) -> Reply:
    """The JSON stops after this share of it; Content-Length fits what is sent."""
    kept = min(int(len(reply.body) * float(params["share"])), len(reply.body) - 1)
    return Reply(reply.body[: max(kept, 1)], reply.status, reply.headers, reply.content_type)


@reply_fault(content_type="text/plain")
def wrong_content_type(reply: Reply, params: Params) -> Reply:
    """A good body under another content type."""
    return Reply(reply.body, reply.status, reply.headers, str(params["content_type"]))


@wire_fault(seconds=2.0)
async def slow(request: web.BaseRequest, reply: Reply, *, params: Params, send: Send) -> web.StreamResponse:
    """The whole answer comes after this many seconds."""
    await asyncio.sleep(float(params["seconds"]))
    return await send(request, reply)


@wire_fault(seconds=3600.0)
async def hang(request: web.BaseRequest, reply: Reply, *, params: Params, send: Send) -> web.StreamResponse:
    """No answer at all; the connection stays open."""
    await asyncio.sleep(float(params["seconds"]))
    return await send(request, reply)


@wire_fault(chunk_bytes=64, pause_s=0.5)
async def slow_drip(
    request: web.BaseRequest, reply: Reply, *, params: Params, send: Send
) -> web.StreamResponse:
    """The body comes in small chunks with a pause after each."""
    response = _open(reply)
    await response.prepare(request)
    size = int(params["chunk_bytes"])
    for start in range(0, len(reply.body), size):
        await response.write(reply.body[start : start + size])
        await asyncio.sleep(float(params["pause_s"]))
    await response.write_eof()
    return response


@wire_fault(share=0.5)
async def reset_mid_body(
    request: web.BaseRequest, reply: Reply, *, params: Params, send: Send
) -> web.StreamResponse:
    """The connection is reset after this share of the body."""
    response = _open(reply)
    await response.prepare(request)
    await response.write(reply.body[: int(len(reply.body) * float(params["share"]))])
    # The head and the part of the body should be read before the reset throws away what is not.
    await asyncio.sleep(_RESET_PAUSE_S)
    transport = request.transport
    if isinstance(transport, asyncio.Transport):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return response


@wire_fault(share=0.0)
async def token_cut(
    request: web.BaseRequest, reply: Reply, *, params: Params, send: Send
) -> web.StreamResponse:
    """A refresh takes effect, and its answer is cut off after this share; 0 cuts before the head."""
    if float(params["share"]) > 0:
        return await reset_mid_body(request, reply, params=params, send=send)
    response = _open(reply)
    if request.transport is not None:
        request.transport.abort()
    return response


@wire_fault(mib=50)
async def huge_body(
    request: web.BaseRequest, reply: Reply, *, params: Params, send: Send
) -> web.StreamResponse:
    """A valid answer with this many MiB of padding inside."""
    head, tail = reply.body[:-1] + b',"padding":"', b'"}'
    mib = int(params["mib"])
    response = _open(reply, length=len(head) + mib * _MIB + len(tail))
    await response.prepare(request)
    await response.write(head)
    padding = b"x" * _MIB
    for _ in range(mib):
        await response.write(padding)
    await response.write(tail)
    await response.write_eof()
    return response


@wire_fault(mib=200)
async def gzip_bomb(
    request: web.BaseRequest, reply: Reply, *, params: Params, send: Send
) -> web.StreamResponse:
    """A small gzip body that unpacks to this many MiB."""
    packed = await asyncio.to_thread(_pack, int(params["mib"]))
    response = _open(reply, length=len(packed))
    response.headers["Content-Encoding"] = "gzip"
    await response.prepare(request)
    await response.write(packed)
    await response.write_eof()
    return response


@lru_cache(maxsize=2)
def _pack(mib: int) -> bytes:
    press = zlib.compressobj(level=1, wbits=31)
    padding = b"x" * _MIB
    parts = [press.compress(b'{"code":0,"message":"Success","padding":"')]
    parts += [press.compress(padding) for _ in range(mib)]
    parts += [press.compress(b'"}'), press.flush()]
    return b"".join(parts)


def _open(reply: Reply, length: int | None = None) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.content_type
    response.content_length = len(reply.body) if length is None else length
    return response
