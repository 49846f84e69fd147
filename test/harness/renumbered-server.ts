/**
 * A real server that says it is of another major version: a relay on loopback, which changes the `server_version` that the
 * server reports when a connection opens, and passes everything else on as it is.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface RenumberedServer extends AsyncDisposable {
  readonly dsn: string;
}

/** Both versions have two digits, so that no message changes its length. */
export async function renumbered(dsn: string, from: number, to: number): Promise<RenumberedServer> {
  const target = new URL(dsn);
  const { hostname, port } = target;
  target.searchParams.set("sslmode", "disable");
  const told = Buffer.from(`server_version\0${from}`);
  const sockets = new Set<Socket>();
  const relay = createServer((client) => {
    const server = connect(Number(port), hostname);
    let head: Buffer | undefined = Buffer.alloc(0);
    server.on("data", (data) => {
      if (head === undefined) return void client.write(data);
      // The whole welcome may come in pieces.
      head = Buffer.concat([head, data]);
      const at = head.indexOf(told);
      if (at >= 0) head.write(String(to), at + told.length - 2, "latin1");
      if (at < 0 && head.length < WELCOME_BYTES_MAX && !isOver(head)) return;
      client.write(head);
      head = undefined;
    });
    client.on("data", (data) => void server.write(data));
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => other.destroy());
      socket.on("end", () => other.end());
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  // Listening on TCP, so the address is of this kind.
  target.port = String((relay.address() as AddressInfo).port);
  return {
    dsn: target.href,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => relay.close(() => resolve()));
    },
  };
}

const WELCOME_BYTES_MAX = 65_536;

/** An authentication request waits for an answer, and an error ends the connection: neither can be held back. */
function isOver(head: Buffer): boolean {
  const isRequest = head[0] === 0x52 && head.length >= 9 && head.readUInt32BE(5) !== 0;
  return isRequest || head[0] === 0x45;
}
