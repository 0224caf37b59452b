"""A broker of MQTT 3.1.1 that is only good enough to test those who measure: no queues for who is away. It can
lose every n-th message, or alter it.

  broker.py [--lose N] [--alter N]         prints its port, ends with its standard input
"""
import argparse
import asyncio
import sys


class Broker:
    def __init__(self, lose, alter):
        self.lose, self.alter = lose, alter
        self.topics = {}
        self.count = 0

    @staticmethod
    async def packet(reader):
        head = (await reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return head, await reader.readexactly(size)

    @staticmethod
    def encode(head, body):
        length, size = b"", len(body)
        while True:
            size, low = divmod(size, 128)
            length += bytes([low | 0x80 if size else low])
            if not size:
                return bytes([head]) + length + body

    def publish(self, topic, packet):
        self.count += 1
        if self.lose and self.count % self.lose == 0:
            return
        if self.alter and self.count % self.alter == 0:
            packet = packet[:-1] + bytes([packet[-1] ^ 1])
        for writer in self.topics.get(topic, ()):
            writer.write(packet)

    async def serve(self, reader, writer):
        topics = []
        try:
            while True:
                head, body = await self.packet(reader)
                kind = head & 0xF0
                if kind == 0x10:
                    writer.write(b"\x20\x02\x00\x00")
                elif kind == 0x80:
                    size = int.from_bytes(body[2:4], "big")
                    topics.append(body[4:4 + size])
                    self.topics.setdefault(topics[-1], []).append(writer)
                    writer.write(b"\x90\x03" + body[:2] + b"\x01")
                elif kind == 0x30:
                    size = int.from_bytes(body[:2], "big")
                    self.publish(body[2:2 + size], self.encode(head, body))
                    writer.write(b"\x40\x02" + body[2 + size:4 + size])
                elif kind == 0xE0:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for topic in topics:
                self.topics[topic].remove(writer)
            writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lose", type=int, default=0)
    parser.add_argument("--alter", type=int, default=0)
    options = parser.parse_args()
    server = await asyncio.start_server(Broker(options.lose, options.alter).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
