/**
 * Loaded into the receiver with `--import`: where the time of a synchronous commit goes inside it. Watches the replication
 * connection and the requests to S3 from outside, through Node.js's own modules, and writes medians as JSON into the
 * file that SEAWALL_BENCH_STAGES names when the process ends.
 */
import { writeFileSync } from "node:fs";
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import { type CommitStages, STAGES_ENV } from "./commit-stages-file.ts";
import { quantile } from "./stats.ts";

/** The last ones, of one client: many clients have warmed the receiver up before. */
const COUNTED = 400;

const stages: Record<keyof CommitStages, number[]> = { beforePutMs: [], putMs: [], afterPutMs: [] };
let arrivedMs: number | undefined;
let requestedMs: number | undefined;
let answeredMs: number | undefined;

class WatchedSocket extends net.Socket {
  readonly #isReplication: boolean;

  constructor(options?: net.SocketConstructorOpts) {
    const { onread } = (options ?? {}) as { onread?: net.OnReadOpts };
    super(onread === undefined ? options : ({ ...options, onread: watched(onread) } as net.SocketConstructorOpts));
    this.#isReplication = onread !== undefined;
  }

  /** Every write of a stream ends here, and in `_writev` where several waited. */
  override _write(chunk: unknown, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#isReplication && answeredMs !== undefined) reported();
    super._write(chunk, encoding, done);
  }
}

function watched(onread: net.OnReadOpts): net.OnReadOpts {
  return {
    ...onread,
    callback: (bytes, buffer) => {
      if (requestedMs === undefined) arrivedMs = performance.now();
      return onread.callback(bytes, buffer);
    },
  };
}

/** What arrived, was stored and is now reported: one commit, when there is one client. */
function reported(): void {
  if (arrivedMs !== undefined && requestedMs !== undefined && answeredMs !== undefined) {
    stages.beforePutMs.push(requestedMs - arrivedMs);
    stages.putMs.push(answeredMs - requestedMs);
    stages.afterPutMs.push(performance.now() - answeredMs);
  }
  arrivedMs = undefined;
  requestedMs = undefined;
  answeredMs = undefined;
}

const request = http.request.bind(http) as (...given: unknown[]) => http.ClientRequest;
const watchedRequest = (...given: unknown[]): http.ClientRequest => {
  const [options] = given as [http.RequestOptions];
  const isCommit = options.method === "PUT" && options.path?.includes("/tail/") === true;
  // A merge of chunks is no commit: nothing has arrived for it.
  if (!isCommit || arrivedMs === undefined || requestedMs !== undefined) return request(...given);
  requestedMs = performance.now();
  // An answer without a body is whole with its head.
  return request(...given).prependOnceListener("response", () => (answeredMs = performance.now()));
};

Object.assign(net, { Socket: WatchedSocket });
Object.assign(http, { request: watchedRequest });
syncBuiltinESMExports();

process.on("exit", () => {
  const median = (times: readonly number[]): number => quantile(times.slice(-COUNTED), 0.5);
  const found: CommitStages = {
    beforePutMs: median(stages.beforePutMs),
    putMs: median(stages.putMs),
    afterPutMs: median(stages.afterPutMs),
  };
  const path = process.env[STAGES_ENV];
  if (path !== undefined) writeFileSync(path, JSON.stringify(found));
});
