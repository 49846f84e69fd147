/**
 * What one `vitest run` shares between its workers: a socket in the main process on which a worker asks for a service by
 * name. The first to ask has it started, all get the same answer, and it ends with the main process, however that ends.
 */
import { type Server, connect, createServer } from "node:net";
import { join } from "node:path";
import { makeTempDir, removeTree } from "./temp.ts";

/** Names the run's folder in the environment of the workers. */
export const RUN_DIR = "SEAWALL_TEST_RUN_DIR";

export type Service = () => Promise<{ readonly answer: unknown; readonly stop: () => Promise<void> }>;

export class RunServices implements AsyncDisposable {
  /** What workers are told, as RUN_DIR. */
  readonly folder: string;
  readonly #server: Server;
  readonly #started = new Map<string, ReturnType<Service>>();

  private constructor(folder: string, server: Server) {
    this.folder = folder;
    this.#server = server;
  }

  /** In the main process, before workers start. */
  static async open(services: Readonly<Record<string, Service>>): Promise<RunServices> {
    const folder = makeTempDir("run");
    const server = createServer();
    const self = new RunServices(folder, server);
    server.on("connection", (socket) => {
      // A worker that is killed while it waits is no reason to fail the run.
      socket.on("error", () => socket.destroy());
      socket.once("data", (data) => {
        const name = data.toString("utf8").trim();
        const service = services[name];
        const answer = service === undefined ? Promise.resolve({ unknown: name }) : self.#start(name, service);
        void answer.then((value) => socket.end(JSON.stringify(value)));
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(join(folder, "socket"), resolve);
    });
    return self;
  }

  async #start(name: string, service: Service): Promise<unknown> {
    const running = this.#started.get(name) ?? service();
    this.#started.set(name, running);
    return (await running).answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#started.values()) await (await running).stop();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    removeTree(this.folder);
  }
}

/** From a worker: the service's answer; undefined when there is no run around us. */
export async function askRunServices(name: string, folder = process.env[RUN_DIR]): Promise<unknown> {
  if (folder === undefined) return undefined;
  const socket = connect(join(folder, "socket"));
  socket.write(`${name}\n`);
  let text = "";
  for await (const data of socket as AsyncIterable<Buffer>) text += data.toString("utf8");
  return JSON.parse(text) as unknown;
}
