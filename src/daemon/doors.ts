/** Where the daemon listens: one address at a time, and from one to the next without a moment on none. */
import { type ListenAddress, formatAddress } from "../config/types.ts";
import type { Log } from "../log.ts";
import { type HttpServer, startHttp } from "./http.ts";
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

  /** Listens on the new address first; when that fails, everything is as it was, and it throws `listen-failed`. */
  async change(listen: ListenAddress): Promise<void> {
    if (formatAddress(listen) === formatAddress(this.#asked)) return;
    const next = await this.#listenOn(listen);
    const before = this.#http;
    [this.#http, this.#asked] = [next, listen];
    await before?.close();
  }

  async close(): Promise<void> {
    await this.#http?.close();
  }

  async #listenOn(listen: ListenAddress): Promise<HttpServer | undefined> {
    if (listen.kind === "off" || this.#site === undefined) return undefined;
    const http = await startHttp({ listen, site: this.#site, log: this.#log.child("http") });
    this.#log.info("listening", { address: http.address });
    return http;
  }
}
