# SPDX-License-Identifier: GPL-2.0
"""FullNAT on the stage of parity_stage: scenes that know only NAT, played by FullNAT.

The TCP option is left out. Each scene has a local address of its own, 10.4.0.N or 2001:db8:4::N.
"""

import re

import genl
from genl import Genl
from parity_dissect import Dissector
from parity_stage import Scene

FULLNAT = 5
PROTO = {"-t": 6, "-u": 17, "--sctp-service": 132}
# From one host and port to another.
ENDS = re.compile(r"(?:to [^:]*: )?IPv[46] (\S+) > (\S+) [^|]*(?:\| (?:[a-z-]+) [^|]*)*\| (TCP|UDP|SCTP) (\d+) > (\d+)")


class Translated(Scene):
    """A scene by FullNAT that tells of clients where servers see a local address and port."""

    def __init__(self, stage, family):
        super().__init__(stage, family)
        self.laddr = f"10.4.0.{self.number}" if family == 4 else f"2001:db8:4::{self.number}"
        # (address, port) of the client by server and local port; the local port by client and what it asked for.
        self.clients, self.ports = {}, {}
        # The last client whose ports were seen, what has left meanwhile, and what the director itself is to send.
        self.last, self.early, self.asking = None, [], None
        self.setting("fullnat_toa_entry", 0)

    def peer(self, flow):
        known = self.ports.get((flow.proto.upper(), flow.src, flow.sport, flow.vport, flow.server))
        return (self.laddr, known) if known else (flow.src, flow.sport)

    def command(self, lines):
        return "".join(self.one_command(line) for line in lines)

    def one_command(self, line):
        """Carries a line of ipvsadm out; what has NAT has FullNAT."""
        words = line.split()
        if "-m" not in words:
            told = self.stage.adm.run([line])
            if words[0] == "-A":
                self.talk("RLVS", genl.NEW_LADDR, self.key(words) + genl.laddr(self.laddr))
            return told
        weight = int(words[words.index("-w") + 1]) if "-w" in words else 1
        server, port = words[words.index("-r") + 1].rsplit(":", 1)
        command = {"-a": genl.NEW_DEST, "-e": genl.SET_DEST}[words[0]]
        self.talk("IPVS", command, self.key(words) + genl.dest(server.strip("[]"), int(port), weight, FULLNAT))
        return ""

    def talk(self, family, command, payload):
        """Sends a netlink command."""
        with self.stage.place, Genl(family) as sock:
            sock.call(command, payload)

    @staticmethod
    def key(words):
        """The service of a line."""
        if words[1] == "-f":
            return genl.service(int(words[2]), 10 if "-6" in words else 2, full=False)
        addr, port = words[2].rsplit(":", 1)
        return genl.service(addr.strip("[]"), int(port), PROTO[words[1]], full=False)

    def sent(self, data):
        """A client's packet is on its way: learns which local port it has got, and keeps what has left."""
        wires = (("c", self.stage.client), ("s", self.stage.server))
        told = [(name, text) for name, wire in wires for text in wire.got()]
        self.last = ENDS.match(Dissector(data).told()) or self.last
        for name, text in told:
            found = ENDS.match(text)
            if name == "s" and found and found[1] == self.laddr:
                server, lport = found[2], int(found[4])
                client, _, proto, cport, vport = self.last.groups()
                self.clients[server, lport] = client, int(cport)
                self.ports[proto, client, int(cport), int(vport), server] = lport
        self.early += told

    def c(self, label, *packets, vnet=bytes(10)):
        for data in packets:
            self.stage.client.put(data, vnet)
            self.sent(data)
        return self._left(f"client: {label}")

    def own(self, label, data):
        self.asking = data
        return super().own(label, data)

    def _left(self, label):
        if label.startswith("director: "):
            self.sent(self.asking)
        self.early += [("c", text) for text in self.stage.client.got()]
        self.early += [("s", text) for text in self.stage.server.got()]
        told = [f"{name} {self.translated(text)}" for name, text in sorted(self.early, key=lambda one: one[0])]
        self.early = []
        self.step(label, "\n".join((told or ["nothing leaves"]) + self.changes()))
        return told

    def translated(self, text):
        """A packet's text with the client where the local address and port are."""
        for (server, lport), (client, cport) in self.clients.items():
            if server in text and re.search(rf"(TCP|UDP|SCTP) ({lport} >|\d+ > {lport} )", text):
                text = re.sub(rf"((?:TCP|UDP|SCTP) ){lport} >", rf"\g<1>{cport} >", text)
                text = re.sub(rf"((?:TCP|UDP|SCTP) \d+ > ){lport} ", rf"\g<1>{cport} ", text)
                break
        else:
            client = self.last and self.last[1]
        if client and self.laddr in text:
            text = text.replace(self.laddr, client)
            if client == self.server(0):
                # Identifiers of the director's own packets are of chance.
                text = re.sub(r"^([^|]*) id \+\d+", r"\1 id *", text)
        return text
