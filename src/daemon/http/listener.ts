/** Listens on one address at a time, and moves to another without a pause where that is possible. */
import { type ListenAddress, formatAddress } from "../../config/types.ts";
import type { Log } from "../../log.ts";
import { type HttpServer, startHttp } from "./server.ts";
import type { Site } from "./site.ts";

export class Doors {
  readonly #log: Log;
  #site: Site | undefined;
  #asked: ListenAddress = { kind: "off" };
  #http: HttpServer | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Throws `listen-failed`. */
  async open(listen: ListenAddress, site: Site): Promise<void> {
    this.#site = site;
    this.#http = await this.#listenOn(listen);
    this.#asked = listen;
  }

  /** When it cannot listen on the new address, everything is as it was, and it throws `listen-failed`. */
  async change(listen: ListenAddress): Promise<void> {
    const before = this.#asked;
    if (formatAddress(listen) === formatAddress(before)) return;
    if (samePort(listen, before)) {
      await this.#changeHost(listen, before);
      return;
    }
    const next = await this.#listenOn(listen);
    const left = this.#http;
    [this.#http, this.#asked] = [next, listen];
    await left?.close();
  }

  async close(): Promise<void> {
    await this.#http?.close();
  }

  /** A port on one address is in the way of the same port on all of them: the old address is given up first. */
  async #changeHost(listen: ListenAddress, before: ListenAddress): Promise<void> {
    await this.close();
    [this.#http, this.#asked] = [undefined, { kind: "off" }];
    try {
      this.#http = await this.#listenOn(listen);
      this.#asked = listen;
    } catch (error) {
      // When another process has taken it meanwhile, the next reload tries again.
      this.#http = await this.#listenOn(before);
      this.#asked = before;
      throw error;
    }
  }

  async #listenOn(listen: ListenAddress): Promise<HttpServer | undefined> {
    if (listen.kind === "off" || this.#site === undefined) return undefined;
    const http = await startHttp({ listen, site: this.#site, log: this.#log.child("http") });
    this.#log.info("listening", { address: http.address });
    return http;
  }
}

function samePort(a: ListenAddress, b: ListenAddress): boolean {
  return a.kind === "tcp" && b.kind === "tcp" && a.port === b.port;
}
