"""Where namespaces are not permitted: nodes on loopback that reach each other through a proxy of ours.

Node N binds its link to 127.7.X.N and advertises 127.8.X.N, where the proxy listens with TCP and UDP at the
same port. A datagram goes on from the advertised address of its sender, so nodes see nothing odd. Who
opened a TCP connection is found in /proc. A pair that is cut loses its streams and its datagrams.
"""
import asyncio
import contextlib
import os
import pathlib
import threading

from fault_lab import PORTS


class Proxy:
    """The same faults as fault_net.Namespaces, as far as a process can make them: cuts, no weather."""

    def __init__(self, lab, count):
        self.lab = lab
        self.part = os.getpid() % 250 + 1
        self.count = count
        self.cuts = set()          # (sender, receiver)
        self.streams = {}          # writer -> (one, other)
        self.taken = 0
        self.datagrams = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        lab.stack.callback(self.close)
        self.call(self.listen())

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self):
        async def end():
            for writer in list(self.streams):
                writer.close()
        self.call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def bound(self, number):
        return f"127.7.{self.part}.{number}"

    def advertised(self, number):
        return f"127.8.{self.part}.{number}"

    def addresses(self, number):
        at = {name: f"{self.bound(number)}:{port}" for name, port in PORTS.items()}
        return at | {"more": ["--advertise", self.advertised(number)]}

    def inside(self, _):
        return []

    async def listen(self):
        for number in range(1, self.count + 1):
            here = self.advertised(number)
            await asyncio.start_server(lambda r, w, n=number: self.stream(n, r, w), here, PORTS["link"])
            # A client that is sent to another node finds its door too.
            await asyncio.start_server(lambda r, w, n=number: self.pump_both(r, w, n, "client", None), here,
                                       PORTS["client"])
            transport, _ = await self.loop.create_datagram_endpoint(
                lambda n=number: Datagrams(self, n), local_addr=(here, PORTS["link"]))
            self.datagrams[number] = transport

    def dialler(self, port):
        """The node whose process has this local TCP port; 0: somebody else."""
        wanted = None
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == port and fields[3] == "01":
                wanted = f"socket:[{fields[9]}]"
        for node in self.lab.nodes:
            if node.ended() or wanted is None:
                continue
            for entry in pathlib.Path(f"/proc/{node.process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(entry) == wanted:
                        return node.number
        return 0

    async def stream(self, to, reader, writer):
        sender = self.dialler(writer.get_extra_info("peername")[1])
        if (sender, to) in self.cuts or (to, sender) in self.cuts:
            self.taken += 1
            return writer.close()
        await self.pump_both(reader, writer, to, "link", (sender, to))

    async def pump_both(self, reader, writer, to, port, pair):
        try:
            far_reader, far_writer = await asyncio.open_connection(self.bound(to), PORTS[port])
        except OSError:
            return writer.close()
        self.streams[writer] = self.streams[far_writer] = pair
        await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self.streams.pop(writer, None)
        writer.close()

    def cut(self, sender, receiver):
        """No datagram of `sender` reaches `receiver`, and no stream between them lives."""
        async def do():
            self.cuts.add((sender, receiver))
            for writer, pair in list(self.streams.items()):
                if pair in ((sender, receiver), (receiver, sender)):
                    self.taken += 1
                    writer.transport.abort()
        self.call(do())

    def isolate(self, number):
        for other in range(1, self.count + 1):
            if other != number:
                self.cut(number, other)
                self.cut(other, number)

    def heal(self):
        async def do():
            self.cuts.clear()
            taken, self.taken = self.taken, 0
            return taken
        return self.call(do())


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, proxy, to):
        self.proxy = proxy
        self.to = to

    def datagram_received(self, data, address):
        sender = int(address[0].rsplit(".", 1)[1])
        if (sender, self.to) in self.proxy.cuts:
            self.proxy.taken += 1
        elif sender in self.proxy.datagrams:
            self.proxy.datagrams[sender].sendto(data, (self.proxy.bound(self.to), PORTS["link"]))
