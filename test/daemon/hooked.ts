/** A daemon that notifies, and the webhook that it tells: what has arrived there, by cluster. */
import { mkdirSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { NoticeBody } from "../../src/daemon/notify/notice.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { until } from "../campaigns/campaign.ts";
import { type CliProcess, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

export const SECRETS = {
  ...{ path: "T0-secret-path", token: "secret-token-1", password: "secret-password-2", key: "secret-key-3" },
};
const ENV = { PGPASSWORD: SECRETS.password, AWS_SECRET_ACCESS_KEY: SECRETS.key, AWS_ACCESS_KEY_ID: "AKIATEST" };

export interface Received {
  readonly text: string;
  readonly body: NoticeBody;
  readonly token: unknown;
}

export class Hooked implements Disposable {
  readonly dir = makeTempDir("notify");
  readonly received: readonly Received[];
  readonly #server: Server;
  readonly url: string;

  static async start(): Promise<Hooked> {
    const received: Received[] = [];
    const server = createServer((request, response) => {
      let text = "";
      request.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      request.on("end", () => {
        received.push({ text, body: JSON.parse(text) as NoticeBody, token: request.headers["x-token"] });
        response.end("ok");
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Hooked(server, received);
  }

  private constructor(server: Server, received: Received[]) {
    this.#server = server;
    this.received = received;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${SECRETS.path}`;
  }

  eventsOf(cluster: string): string[] {
    return this.received.filter(({ body }) => body.cluster === cluster).map(({ body }) => body.event);
  }

  count(cluster: string, event: string): number {
    return this.eventsOf(cluster).filter((one) => one === event).length;
  }

  bodyOf(cluster: string, event: string): NoticeBody | undefined {
    return this.received.find(({ body }) => body.cluster === cluster && body.event === event)?.body;
  }

  /** With slot and store folder named like the cluster. */
  daemon(
    server: { readonly dsn: string },
    cluster: string,
    flags: readonly string[] = [],
    more: Readonly<Record<string, string>> = {},
  ): CliProcess {
    mkdirSync(join(this.dir, cluster), { recursive: true });
    const store = `file://${this.dir}/${cluster}`;
    const place = ["--dsn", server.dsn, "--store", store, "--cluster", cluster, "--slot", cluster];
    const fast = ["--listen", "127.0.0.1:0", "--log-format", "json", "--reconnect-max-delay", "200ms"];
    const env = { ...ENV, SEAWALL_NOTIFY_URL: this.url, SEAWALL_NOTIFY_HEADER: `X-Token: ${SECRETS.token}`, ...more };
    const after = flags.includes("--notify-after") ? [] : ["--notify-after", "1s"];
    return startCli(["receive", ...place, ...fast, ...after, ...flags], { env });
  }

  [Symbol.dispose](): void {
    this.#server.close();
    removeTree(this.dir);
  }
}

export async function addressOf(daemon: CliProcess): Promise<string> {
  return (JSON.parse(await daemon.waitForLine(/"msg":"listening"/)) as { address: string }).address;
}

export async function statusOf(address: string): Promise<StatusDocument> {
  return (await (await fetch(`http://${address}/status.json`)).json()) as StatusDocument;
}

/** The address, once it streams. */
export async function streaming(daemon: CliProcess): Promise<string> {
  const address = await addressOf(daemon);
  await until("the stream", async () => (await statusOf(address)).state === "streaming", 60_000);
  return address;
}
