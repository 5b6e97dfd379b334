#!/usr/bin/env python3
"""Prints each daemon of a fleet as a line of JSON: control-client.py SOCKET. What it says is in control.md."""
import json, socket, struct, sys, zlib

REQUEST, RESPONSE, HEADER = 7, 8, struct.Struct("<2sBBII")


def ask(stream, **request):
    body = json.dumps(request).encode()
    stream.write(HEADER.pack(b"Du", 1, REQUEST, len(body), zlib.crc32(bytes([REQUEST]) + body)) + body)
    stream.flush()
    while True:
        magic, version, kind, length, checksum = HEADER.unpack(stream.read(HEADER.size))
        body = stream.read(length)
        if (magic, version, kind, checksum) != (b"Du", 1, RESPONSE, zlib.crc32(bytes([kind]) + body)):
            sys.exit("this is no answer of a manager")
        response = json.loads(body)
        if response["response"] == "error":
            sys.exit(f"{response['code']}: {response['message']!a}")
        yield response
        if response["response"] in ("hello", "ok", "done"):
            return


with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    stream = connection.makefile("rwb")
    list(ask(stream, request="hello", version=4))
    for response in ask(stream, request="ps"):
        for row in response.get("daemons", []):
            print(json.dumps(row))
